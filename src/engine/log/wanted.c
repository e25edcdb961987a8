/* engine/log/wanted.c: see engine/log/wanted.h. */
#include "engine/log/wanted.h"

#include "base/mem.h"
#include "engine/file.h"
#include "engine/log/log_engine.h"

#define DENSE_PART 4u /* of a file: where that is all that need not be read, all of it is */
#define GAP_MAX 2u    /* blocks that are read, too: that takes less than one more request */
#define PART_MAX 32u  /* blocks: for one wish the system may read no more */
#define PARTS_AHEAD 32u

static bool is_cached(const struct segment *segment)
{
    return atomic_load_explicit(&segment->memory, memory_order_relaxed) != NULL;
}

/* Each record may begin and end within a block. */
static uint64_t bytes_that_count(const struct segment *segment)
{
    const struct accounts *accounts = &segment->accounts;
    uint64_t records = segment->entries + accounts->tombstone_bytes / RECORD_SIZE_MIN;
    return accounts->live_bytes + accounts->tombstone_bytes + records * FILE_BLOCK_SIZE;
}

bool wanted_is_sparse(const struct segment *segment)
{
    return !is_cached(segment) && segment->hint == SEGMENT_HINT_THERE && /* which tells where */
           !segment->owes_removals && /* of all that is over, which nothing here counts */
           bytes_that_count(segment) < segment->size - segment->size / DENSE_PART;
}

uint64_t wanted_bytes(const struct segment *segment)
{
    if (is_cached(segment))
        return 0;
    return wanted_is_sparse(segment) ? bytes_that_count(segment) + segment->hint_size
                                     : segment->size;
}

int wanted_init(struct wanted *wanted, uint32_t size)
{
    *wanted = (struct wanted){.count = (uint32_t)(file_block_end(size) / FILE_BLOCK_SIZE)};
    wanted->bits = mem_zalloc(wanted->count / 8 + 1);
    return wanted->bits != NULL ? 0 : KVS_ERR_NO_MEMORY;
}

void wanted_deinit(struct wanted *wanted)
{
    mem_free(wanted->bits);
    *wanted = (struct wanted){0};
}

void wanted_add(struct wanted *wanted, uint32_t from, uint32_t size)
{
    uint32_t last = (from + size - 1) / FILE_BLOCK_SIZE;
    for (uint32_t i = from / FILE_BLOCK_SIZE; i <= last && i < wanted->count; i++)
        wanted->bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static uint32_t next_from(const struct wanted *wanted, uint32_t at)
{
    while (at < wanted->count && (wanted->bits[at / 8] >> at % 8 & 1) == 0)
        at++;
    return at;
}

bool wanted_part(const struct wanted *wanted, uint32_t at, uint32_t *ret_from, uint32_t *ret_to)
{
    uint32_t from = next_from(wanted, at);
    if (from == wanted->count)
        return false;
    uint32_t to = from + 1;
    for (uint32_t next = next_from(wanted, to);
         next < wanted->count && next - to <= GAP_MAX && next - from < PART_MAX;
         next = next_from(wanted, to))
        to = next + 1;
    *ret_from = from;
    *ret_to = to;
    return true;
}

/* Until the system has read it. */
static void block_wait(int fd, uint32_t block)
{
    uint8_t byte;
    (void)file_read(fd, &byte, sizeof byte, (uint64_t)block * FILE_BLOCK_SIZE);
}

void wanted_ask(struct wanted *wanted, struct log_engine *log, int fd, uint32_t parts)
{
    uint32_t from;
    uint32_t to;
    for (; parts > 0 && wanted_part(wanted, wanted->asked_to, &from, &to); parts--) {
        file_read_ahead(fd, (uint64_t)from * FILE_BLOCK_SIZE, (uint64_t)to * FILE_BLOCK_SIZE);
        wanted->asked_to = to;
        if (++wanted->parts % PARTS_AHEAD != 0)
            continue;
        if (compaction_is_stopping(log))
            return;
        if (wanted->parts > PARTS_AHEAD)
            block_wait(fd, wanted->before);
        wanted->before = from;
    }
    if (parts > 0)
        wanted->asked_to = wanted->count;
}
