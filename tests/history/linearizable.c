/* tests/history/linearizable.c: see linearizable.h. */
#include "history/linearizable.h"

#include "base/rand.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define TRIED_MAX (4u * 1024 * 1024)

/* --- one call -------------------------------------------------------------------------------- */

static uint16_t register_get(uint64_t registers, unsigned i)
{
    return (uint16_t)(registers >> (16 * i));
}

static uint64_t register_set(uint64_t registers, unsigned i, uint16_t value)
{
    return (registers & ~((uint64_t)0xffff << (16 * i))) | (uint64_t)value << (16 * i);
}

static bool step_single(const struct history_call *call, uint64_t registers, uint64_t *ret)
{
    unsigned i = (unsigned)__builtin_ctz(call->mask);
    uint16_t now = register_get(registers, i);
    bool known = call->returned != HISTORY_NEVER;
    if (call->kind == HISTORY_REMOVE) {
        *ret = register_set(registers, i, 0);
        return !known || call->held == (now != 0);
    }
    bool holds = now == call->expected;
    *ret = holds ? register_set(registers, i, call->values[0]) : registers;
    if (known && !call->held)
        return !holds && now == call->values[0];
    return !known || holds;
}

bool history_step(const struct history_call *call, uint64_t registers, uint64_t *ret_registers)
{
    if (call->kind == HISTORY_REMOVE || call->kind == HISTORY_CAS)
        return step_single(call, registers, ret_registers);
    unsigned there = 0;
    bool fits = true;
    *ret_registers = registers;
    for (unsigned i = 0; i < HISTORY_REGISTERS; i++) {
        if ((call->mask & 1u << i) == 0)
            continue;
        uint16_t now = register_get(registers, i);
        there += now != 0;
        if (call->kind == HISTORY_SET)
            *ret_registers = register_set(*ret_registers, i, call->values[i]);
        fits = fits && (call->kind != HISTORY_GET || now == call->values[i]);
    }
    return fits && (call->kind != HISTORY_COUNT || there == call->values[0]);
}

/* --- what was tried -------------------------------------------------------------------------- */

struct hash {
    uint64_t a, b;
};

struct tried {
    struct hash *slots; /* both 0: free */
    size_t size;        /* a power of two */
    size_t count;
};

/* True when it is new. */
static bool tried_insert(struct tried *tried, struct hash hash)
{
    size_t at = hash.a & (tried->size - 1);
    for (; tried->slots[at].a != 0 || tried->slots[at].b != 0; at = (at + 1) & (tried->size - 1)) {
        if (tried->slots[at].a == hash.a && tried->slots[at].b == hash.b)
            return false;
    }
    tried->slots[at] = hash;
    tried->count++;
    return true;
}

static bool tried_add(struct tried *tried, struct hash hash)
{
    if (2 * (tried->count + 1) > tried->size) {
        struct tried larger = {.size = tried->size > 0 ? 2 * tried->size : 1024};
        larger.slots = calloc(larger.size, sizeof *larger.slots);
        assert(larger.slots != NULL);
        for (size_t i = 0; i < tried->size; i++) {
            if (tried->slots[i].a != 0 || tried->slots[i].b != 0)
                tried_insert(&larger, tried->slots[i]);
        }
        free(tried->slots);
        *tried = larger;
    }
    return tried_insert(tried, hash);
}

/* --- the search ------------------------------------------------------------------------------ */

/* Calls are numbered here by the moment they were called. Those of known outcome that are not done
 * stand in a list; number `known` is its head. */
struct search {
    const struct history_call *calls;
    uint32_t *order; /* numbers -> calls: first those of known outcome, then the others */
    uint32_t known, all;
    uint32_t *next, *previous;
    bool *done;
    struct hash *names; /* random, of each call */
    struct hash hash;   /* of the calls that are done */
    uint64_t registers;
    struct tried tried;
    struct step {
        uint32_t call;
        bool only; /* nothing else needs to be tried in its place */
        uint64_t registers;
    } * steps;
    uint32_t depth;
    uint32_t known_done;
    uint32_t best; /* the longest order so far */
    bool *best_done;
};

static const struct history_call *call_of(const struct search *search, uint32_t number)
{
    return &search->calls[search->order[number]];
}

static const struct history_call *sort_calls; /* qsort has no argument */

static int order_compare(const void *x, const void *y)
{
    const struct history_call *a = &sort_calls[*(const uint32_t *)x];
    const struct history_call *b = &sort_calls[*(const uint32_t *)y];
    bool a_unknown = a->returned == HISTORY_NEVER;
    bool b_unknown = b->returned == HISTORY_NEVER;
    if (a_unknown != b_unknown)
        return a_unknown ? 1 : -1;
    return (a->called > b->called) - (a->called < b->called);
}

static void *need(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);
    assert(memory != NULL);
    return memory;
}

static void search_init(struct search *search, const struct history_call *calls, uint32_t count)
{
    *search = (struct search){.calls = calls, .all = count};
    search->order = need(count, sizeof *search->order);
    for (uint32_t i = 0; i < count; i++) {
        search->order[i] = i;
        search->known += calls[i].returned != HISTORY_NEVER;
    }
    sort_calls = calls;
    qsort(search->order, count, sizeof *search->order, order_compare);
    search->next = need(count, sizeof *search->next);
    search->previous = need(count, sizeof *search->previous);
    search->done = need(count, sizeof *search->done);
    search->best_done = need(count, sizeof *search->best_done);
    search->names = need(count, sizeof *search->names);
    search->steps = need(count, sizeof *search->steps);
    uint32_t head = search->known;
    for (uint32_t i = 0; i <= head; i++) {
        search->next[i] = i == head ? 0 : i + 1;
        search->previous[i] = i == 0 ? head : i - 1;
    }
    struct rand rand = rand_seed(1);
    for (uint32_t i = 0; i < count; i++)
        search->names[i] = (struct hash){rand_u64(&rand), rand_u64(&rand)};
}

static void search_deinit(struct search *search)
{
    free(search->order);
    free(search->next);
    free(search->previous);
    free(search->done);
    free(search->best_done);
    free(search->names);
    free(search->steps);
    free(search->tried.slots);
}

static void call_toggle(struct search *search, uint32_t call)
{
    search->done[call] = !search->done[call];
    search->hash.a ^= search->names[call].a;
    search->hash.b ^= search->names[call].b;
    if (call >= search->known)
        return;
    uint32_t before = search->previous[call];
    uint32_t behind = search->next[call];
    search->next[before] = search->done[call] ? behind : call;
    search->previous[behind] = search->done[call] ? before : call;
    search->known_done += search->done[call] ? 1u : -1u;
}

/* Of the calls done and the registers: each number of 64 bits stands for itself. */
static struct hash state_hash(const struct search *search, uint64_t registers, uint32_t call)
{
    struct rand a = rand_seed(registers);
    struct rand b = rand_seed(~registers);
    return (struct hash){search->hash.a ^ search->names[call].a ^ rand_u64(&a),
                         search->hash.b ^ search->names[call].b ^ rand_u64(&b)};
}

/* Does it change nothing wherever it stands? (A set of what is there already does elsewhere.) */
static bool call_only_looks(const struct history_call *call)
{
    return call->kind == HISTORY_GET || call->kind == HISTORY_COUNT ||
           (call->kind >= HISTORY_REMOVE && !call->held && call->returned != HISTORY_NEVER);
}

/* Takes the call as the next one, unless that cannot be or was tried. */
static bool call_take(struct search *search, uint32_t number)
{
    const struct history_call *call = call_of(search, number);
    uint64_t after;
    if (!history_step(call, search->registers, &after))
        return false;
    if (number >= search->known && after == search->registers)
        return false; /* it may as well not have happened */
    if (!tried_add(&search->tried, state_hash(search, after, number)))
        return false;
    search->steps[search->depth++] =
        (struct step){number, call_only_looks(call), search->registers};
    call_toggle(search, number);
    search->registers = after;
    if (search->known_done > search->best) {
        search->best = search->known_done;
        memcpy(search->best_done, search->done, search->all);
    }
    return true;
}

/* The first call from number `from` on that can be next; of those that only look, or the others. */
static bool search_forward(struct search *search, uint32_t from, bool look)
{
    uint64_t end = HISTORY_NEVER; /* who was called later had to wait for somebody */
    for (uint32_t i = search->next[search->known]; i != search->known; i = search->next[i]) {
        const struct history_call *call = call_of(search, i);
        if (call->called > end)
            break;
        end = call->returned < end ? call->returned : end;
        if (i >= from && call_only_looks(call) == look && call_take(search, i))
            return true;
    }
    for (uint32_t i = search->known; i < search->all && call_of(search, i)->called <= end; i++) {
        if (!search->done[i] && i >= from && !look && call_take(search, i))
            return true;
    }
    return false;
}

/* Undoes the last step for which there may be another; from where on that is. */
static bool search_back(struct search *search, uint32_t *ret_from)
{
    while (search->depth > 0) {
        const struct step *step = &search->steps[--search->depth];
        call_toggle(search, step->call);
        search->registers = step->registers;
        if (!step->only) {
            *ret_from = step->call + 1;
            return true;
        }
    }
    return false;
}

enum history_verdict history_check(const struct history_call *calls, size_t count,
                                   size_t *ret_stuck, bool *ret_done)
{
    struct search search;
    search_init(&search, calls, (uint32_t)count);
    enum history_verdict verdict = HISTORY_FINE;
    uint32_t from = 0;
    while (verdict == HISTORY_FINE && search.known_done < search.known) {
        if (search.tried.count > TRIED_MAX)
            verdict = HISTORY_GIVEN_UP;
        else if (search_forward(&search, from, true) || search_forward(&search, from, false))
            from = 0;
        else if (!search_back(&search, &from))
            verdict = HISTORY_REFUSED;
    }
    for (uint32_t i = 0; i < count && ret_done != NULL; i++)
        ret_done[search.order[i]] = search.best_done[i];
    if (ret_stuck != NULL)
        *ret_stuck = search.best;
    search_deinit(&search);
    return verdict;
}

/* --- for a person ---------------------------------------------------------------------------- */

static void call_print(FILE *out, const struct history_call *call, bool done)
{
    static const char *const names[] = {"set", "get", "count", "remove", "cas"};
    fprintf(out, "#   %s client %u: %8llu .. ", done ? "fits " : "STUCK", call->client,
            (unsigned long long)call->called);
    if (call->returned == HISTORY_NEVER)
        fprintf(out, "   never %s", names[call->kind]);
    else
        fprintf(out, "%8llu %s", (unsigned long long)call->returned, names[call->kind]);
    for (unsigned i = 0; i < HISTORY_REGISTERS; i++) {
        if ((call->mask & 1u << i) != 0 && call->kind <= HISTORY_GET)
            fprintf(out, " %u:%u", i, call->values[i]);
    }
    if (call->kind == HISTORY_COUNT)
        fprintf(out, " of mask %x: %u", call->mask, call->values[0]);
    if (call->kind == HISTORY_CAS)
        fprintf(out, " %u -> %u", call->expected, call->values[0]);
    bool has_answer = call->kind >= HISTORY_REMOVE && call->returned != HISTORY_NEVER;
    fprintf(out, "%s\n", !has_answer ? "" : call->held ? " held" : " did not hold");
}

void history_print(FILE *out, const struct history_call *calls, size_t count, const bool *done)
{
    uint64_t from = HISTORY_NEVER; /* of the first that is stuck */
    for (size_t i = 0; i < count; i++) {
        if (!done[i] && calls[i].returned != HISTORY_NEVER && calls[i].called < from)
            from = calls[i].called;
    }
    uint64_t before = from > 60 ? from - 60 : 0;
    for (size_t i = 0; i < count; i++) {
        bool near = count <= 60 || (calls[i].returned >= before && calls[i].called <= from + 60);
        if (near && (count <= 60 || calls[i].returned != HISTORY_NEVER || calls[i].called <= from))
            call_print(out, &calls[i], done[i]);
    }
    fflush(out);
}
