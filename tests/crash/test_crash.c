/*
 * tests/crash/test_crash.c: kill -9 of a loaded server, many times; nothing acknowledged is lost.
 *
 * A round:
 *   1. the server starts on the directory as the last round left it;
 *   2. every writer reads its slots back: each must hold what its last acknowledged write left, or
 *      what one of the writes left that were sent later and never answered; a batch all of it;
 *   3. writers send writes, many in flight, until the connection breaks;
 *   4. after a random time the server is killed.
 *
 * A writer has the slots of its own and numbers its writes. A write sets its slot's keys to the
 * number, or removes them; slots of kind BATCH have several keys, written in one batch.
 *
 *   KVS_TEST_SEED=N  the same kill times and writes again (threads run as they like)
 *   KVS_TEST_SECONDS=N  for so long
 */
#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "contract/engine_fixture.h"
#include "crash/raw_client.h"
#include "crash/server_process.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITERS 6
#define SLOTS 40 /* of a writer; every fourth is a batch */
#define BATCH_KEYS 5
#define WINDOW 16
#define SECONDS 12
#define KEY_SIZE 48
#define VALUE_SIZE_MAX 3000

/* One write under way or acknowledged. */
struct write {
    uint64_t number; /* 0: nothing was ever written */
    bool removes;
};

struct slot {
    struct write known;          /* the last one acknowledged, or what was read back */
    struct write unsure[WINDOW]; /* sent after it, not answered; in order */
    unsigned unsure_count;
};

struct writer {
    unsigned index;
    struct rand rand;
    struct sockaddr_in address;
    pthread_t thread;
    struct raw_client client;
    struct slot slots[SLOTS];
    uint64_t number; /* of the last write */
    unsigned in_flight;
    uint64_t acknowledged; /* in all rounds */
    uint64_t unsure_found; /* unanswered writes that turned out to be done */
    char wrong[256];       /* "" or the promise that was broken */
};

static unsigned slot_keys(unsigned slot)
{
    return slot % 4 == 3 ? BATCH_KEYS : 1;
}

static kvs_slice slot_key(char text[KEY_SIZE], const struct writer *writer, unsigned slot,
                          unsigned i)
{
    snprintf(text, KEY_SIZE, "writer%02u/%02u/%u", writer->index, slot, i);
    return slice_of_string(text);
}

/* A value: its number, then bytes that follow from it. */
static size_t value_make(uint8_t value[VALUE_SIZE_MAX], uint64_t number)
{
    size_t size = 8 + (number * 37) % (number % 50 == 0 ? VALUE_SIZE_MAX - 8 : 200);
    memcpy(value, &number, 8);
    for (size_t i = 8; i < size; i++)
        value[i] = (uint8_t)(number + i * 7);
    return size;
}

/* --- writing ----------------------------------------------------------------------------------*/

static bool send_write(struct writer *writer)
{
    uint64_t number = ++writer->number;
    unsigned slot = (unsigned)rand_below(&writer->rand, SLOTS);
    bool removes = rand_below(&writer->rand, 8) == 0;
    uint8_t value[VALUE_SIZE_MAX];
    size_t size = value_make(value, number);
    char texts[BATCH_KEYS][KEY_SIZE];
    kvs_mutation mutations[BATCH_KEYS];
    unsigned count = slot_keys(slot);
    for (unsigned i = 0; i < count; i++) {
        mutations[i] = mutation_set(slot_key(texts[i], writer, slot, i), slice_make(value, size));
        if (removes)
            mutations[i] = mutation_remove(mutations[i].key);
    }
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_BATCH_WRITE;
    op.mutations = mutations;
    op.count = count;
    if (count == 1 && !removes) {
        op.kind = KVS_OP_SET;
        op.key = mutations[0].key;
        op.value = mutations[0].value;
    }
    struct slot *target = &writer->slots[slot];
    target->unsure[target->unsure_count++] = (struct write){number, removes};
    writer->in_flight++;
    /* The id tells slot and number; a number differs from the others in flight in 16 bits. */
    return raw_client_add(&writer->client, &op, slot << 16 | (uint32_t)(number & 0xffff));
}

static bool take_reply(struct writer *writer)
{
    struct wire_frame frame;
    if (!raw_client_reply(&writer->client, &frame))
        return false;
    if (frame.opcode == WIRE_GOAWAY)
        return false;
    unsigned slot = frame.id >> 16;
    struct slot *target = &writer->slots[slot < SLOTS ? slot : 0];
    unsigned which = 0;
    while (which < target->unsure_count &&
           (target->unsure[which].number & 0xffff) != (frame.id & 0xffff))
        which++;
    if (slot >= SLOTS || which == target->unsure_count || frame.status != 0) {
        snprintf(writer->wrong, sizeof writer->wrong, "reply with id %x, status %d: %.*s", frame.id,
                 frame.status, (int)frame.body.size, (const char *)frame.body.data);
        return false;
    }
    writer->in_flight--;
    writer->acknowledged++;
    if (target->unsure[which].number > target->known.number)
        target->known = target->unsure[which];
    memmove(&target->unsure[which], &target->unsure[which + 1],
            (target->unsure_count - which - 1) * sizeof target->unsure[0]);
    target->unsure_count--;
    return true;
}

/* Until the connection breaks. */
static void *writer_run(void *arg)
{
    struct writer *writer = arg;
    writer->in_flight = 0;
    bool fine = true;
    while (fine) {
        /* Some turns fill the window, some send a single write and wait for it. */
        unsigned window = rand_below(&writer->rand, 4) == 0 ? 1 : WINDOW;
        while (fine && writer->in_flight < window)
            fine = send_write(writer);
        fine = fine && raw_client_flush(&writer->client);
        unsigned replies = 1 + (unsigned)rand_below(&writer->rand, writer->in_flight);
        while (fine && replies-- > 0)
            fine = take_reply(writer);
    }
    raw_client_close(&writer->client);
    return NULL;
}

/* --- checking ---------------------------------------------------------------------------------*/

/* What a key holds: a number, 0 for nothing, UINT64_MAX for bytes that no write put there. */
static uint64_t read_number(struct writer *writer, kvs_slice key)
{
    kvs_op op = KVS_OP_INIT;
    op.kind = KVS_OP_GET;
    op.key = key;
    struct wire_frame frame;
    if (!raw_client_call(&writer->client, &op, &frame)) {
        snprintf(writer->wrong, sizeof writer->wrong, "no answer to a get");
        return UINT64_MAX;
    }
    if (frame.status == KVS_ERR_NOT_FOUND)
        return 0;
    uint64_t number = 0;
    uint8_t expected[VALUE_SIZE_MAX];
    if (frame.status == 0 && frame.body.size >= 8)
        memcpy(&number, frame.body.data, 8);
    if (number == 0 || frame.status != 0 ||
        !slice_equal(frame.body, slice_make(expected, value_make(expected, number))))
        return UINT64_MAX;
    return number;
}

static bool write_leaves(const struct write *write, uint64_t number)
{
    return (write->removes ? 0 : write->number) == number;
}

/* The keys of a slot must all be as one of the possible last writes left them. */
static void check_slot(struct writer *writer, unsigned slot)
{
    struct slot *target = &writer->slots[slot];
    uint64_t number = 0;
    for (unsigned i = 0; i < slot_keys(slot); i++) {
        char text[KEY_SIZE];
        uint64_t one = read_number(writer, slot_key(text, writer, slot, i));
        if (i > 0 && one != number && writer->wrong[0] == '\0')
            snprintf(writer->wrong, sizeof writer->wrong, "%s: half a batch: %lld, before %lld",
                     text, (long long)one, (long long)number);
        number = one;
    }
    bool possible = write_leaves(&target->known, number);
    for (unsigned i = 0; i < target->unsure_count; i++) {
        /* An older one than the last acknowledged may not come back. */
        if (target->unsure[i].number > target->known.number &&
            write_leaves(&target->unsure[i], number)) {
            possible = true;
            writer->unsure_found++;
        }
    }
    if (!possible && writer->wrong[0] == '\0')
        snprintf(
            writer->wrong, sizeof writer->wrong,
            "writer %u slot %u holds %lld; acknowledged last was %s of %llu, and %u unanswered",
            writer->index, slot, (long long)number,
            target->known.removes ? "the removal" : "the write",
            (unsigned long long)target->known.number, target->unsure_count);
    target->known = (struct write){.number = writer->number, .removes = number == 0};
    if (number != 0)
        target->known.number = number;
    target->unsure_count = 0;
}

static void *writer_check(void *arg)
{
    struct writer *writer = arg;
    if (!raw_client_open(&writer->client, &writer->address)) {
        snprintf(writer->wrong, sizeof writer->wrong, "cannot connect");
        return NULL;
    }
    for (unsigned slot = 0; slot < SLOTS && writer->wrong[0] == '\0'; slot++)
        check_slot(writer, slot);
    return NULL;
}

/* --- rounds -----------------------------------------------------------------------------------*/

static struct writer writers[WRITERS];

static void writers_start(void *(*run)(void *arg))
{
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_create(&writers[i].thread, NULL, run, &writers[i]);
}

/* False when one found something wrong. */
static bool writers_join(unsigned round)
{
    bool fine = true;
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(writers[i].thread, NULL);
        if (writers[i].wrong[0] != '\0') {
            printf("# round %u: %s\n", round, writers[i].wrong);
            fine = false;
        }
    }
    return fine;
}

static bool round_run(const char *engine, const char *directory, struct rand *rand, unsigned round)
{
    const char *arguments[] = {"--engine", engine,           "--dir",   directory,     "--sync",
                               "always",   "--segment-size", "1048576", "--log-level", "info",
                               NULL};
    struct server_process server;
    if (!server_process_start(&server, arguments)) {
        printf("# round %u: the server does not start: %s\n", round, server.log);
        return false;
    }
    for (unsigned i = 0; i < WRITERS; i++)
        writers[i].address = server.address;
    writers_start(writer_check);
    bool fine = writers_join(round);
    if (fine) {
        writers_start(writer_run);
        usleep((useconds_t)(1000 * (1 + rand_below(rand, 250))));
        server_process_end(&server, SIGKILL);
        fine = writers_join(round);
    }
    server_process_end(&server, SIGKILL);
    return fine;
}

/* The last round ends with SIGTERM and checks once more. */
static bool last_round(const char *directory, unsigned round)
{
    const char *arguments[] = {"--dir", directory, NULL};
    for (unsigned i = 0; i < 2; i++) {
        struct server_process server;
        if (!server_process_start(&server, arguments)) {
            printf("# the server does not start: %s\n", server.log);
            return false;
        }
        for (unsigned w = 0; w < WRITERS; w++)
            writers[w].address = server.address;
        writers_start(writer_check);
        bool fine = writers_join(round);
        for (unsigned w = 0; w < WRITERS; w++)
            raw_client_close(&writers[w].client);
        int status = server_process_end(&server, SIGTERM);
        if (!fine || status != 0) {
            printf("# after SIGTERM: wait status %x\n", (unsigned)status);
            return false;
        }
    }
    return true;
}

/* The argument is the engine: kvs when left out. */
int main(int argc, char **argv)
{
    const char *engine = argc > 1 ? argv[1] : "kvs";
    uint64_t seed = test_seed();
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t end_ms =
        clock_now_ms() + 1000 * (seconds != NULL ? strtoull(seconds, NULL, 0) : SECONDS);
    char directory[] = "/tmp/kvs-crash-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return 1;
    struct rand rand = rand_seed(seed);
    for (unsigned i = 0; i < WRITERS; i++)
        writers[i] = (struct writer){.index = i, .rand = rand_seed(seed + 1 + i), .client.fd = -1};
    unsigned round = 0;
    bool fine = true;
    do
        fine = round_run(engine, directory, &rand, ++round);
    while (fine && clock_now_ms() < end_ms);
    fine = fine && last_round(directory, round);
    uint64_t acknowledged = 0;
    uint64_t found = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        acknowledged += writers[i].acknowledged;
        found += writers[i].unsure_found;
    }
    printf("# %u kills, %llu writes acknowledged, %llu unanswered ones found done\n", round,
           (unsigned long long)acknowledged, (unsigned long long)found);
    if (fine)
        directory_remove(directory);
    else
        printf("# seed %llu; the directory is left: %s\n", (unsigned long long)seed, directory);
    printf("1..1\n%sok 1 - nothing acknowledged is lost when the server is killed\n",
           fine ? "" : "not ");
    return !fine;
}
