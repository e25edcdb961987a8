/*
 * client/events/event.c: the functions of kvs/event.h: ids and positions.
 *
 * Randomness for several ids is asked of the system at once, by each thread for itself. A process
 * that was made by fork() has its parent's, so it throws that away: a fork is noticed by its
 * number.
 */
#include "base/clock.h"
#include "base/rand.h"
#include "proto/eventstore/frame.h"

#include <assert.h>
#include <kvs/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/random.h>

static_assert(sizeof(kvs_event_id) == sizeof(struct es_id), "the same 16 bytes");

/* So much at a time is given whole, or not at all. */
#define ENTROPY_SIZE 256u

struct entropy {
    uint8_t bytes[ENTROPY_SIZE];
    uint32_t left; /* not used yet: the last of them */
    uint32_t fork; /* of which process they are */
};

static _Atomic uint32_t forks;
static bool forks_are_counted;
static pthread_once_t forks_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
    /* relaxed: the one thread of the new process. */
    atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed);
}

static void forks_begin(void)
{
    forks_are_counted = pthread_atfork(NULL, NULL, count_fork) == 0;
}

static void entropy_fill(struct entropy *entropy)
{
    /* A system that has none yet: clock and address, so that ids still differ. */
    if (getrandom(entropy->bytes, ENTROPY_SIZE, 0) != (ssize_t)ENTROPY_SIZE) {
        struct rand rand = rand_seed(clock_now_ns() ^ (uintptr_t)entropy);
        for (size_t i = 0; i < ENTROPY_SIZE; i++)
            entropy->bytes[i] = (uint8_t)rand_u64(&rand);
    }
    entropy->left = ENTROPY_SIZE;
}

kvs_event_id kvs_event_id_random(void)
{
    static _Thread_local struct entropy entropy;
    kvs_event_id id;
    pthread_once(&forks_once, forks_begin);
    /* relaxed: a fork is seen by the threads of the new process, which begin after it. */
    uint32_t fork = atomic_load_explicit(&forks, memory_order_relaxed);
    if (entropy.left == 0 || entropy.fork != fork || !forks_are_counted)
        entropy_fill(&entropy);
    entropy.fork = fork;
    memcpy(id.bytes, entropy.bytes + ENTROPY_SIZE - entropy.left, sizeof id.bytes);
    entropy.left -= (uint32_t)sizeof id.bytes;
    /* Version 4, variant 1: bytes 7 and 8 as they travel. */
    id.bytes[7] = (uint8_t)((id.bytes[7] & 0x0f) | 0x40);
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

int kvs_event_id_parse(const char *text, kvs_event_id *ret_id)
{
    struct es_id id;
    if (text == NULL || !es_id_parse(slice_make(text, strlen(text)), &id))
        return KVS_ERR_INVALID_ARGUMENT;
    memcpy(ret_id->bytes, id.bytes, sizeof id.bytes);
    return 0;
}

void kvs_event_id_format(const kvs_event_id *id, char text[KVS_EVENT_ID_TEXT_SIZE])
{
    struct es_id same;
    memcpy(same.bytes, id->bytes, sizeof same.bytes);
    es_id_format(&same, text);
}

int kvs_position_compare(kvs_position a, kvs_position b)
{
    if (a.commit != b.commit)
        return a.commit < b.commit ? -1 : 1;
    return (a.prepare > b.prepare) - (a.prepare < b.prepare);
}
