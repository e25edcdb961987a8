/* engine/log/team.c: see engine/log/team.h. */
#include "engine/log/team.h"

#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

struct hand {
    pthread_t thread;
    bool started;
    void (*work)(void *arg, unsigned i);
    void *arg;
    unsigned i;
};

unsigned team_count(uint64_t size, uint64_t unit)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t count = processors > 0 ? (uint64_t)processors : 1;
    if (count > TEAM_MAX)
        count = TEAM_MAX;
    if (count > size / unit + 1)
        count = size / unit + 1;
    return (unsigned)count;
}

static void *hand_run(void *arg)
{
    const struct hand *hand = arg;
    hand->work(hand->arg, hand->i);
    return NULL;
}

void team_run(unsigned count, void (*work)(void *arg, unsigned i), void *arg)
{
    struct hand hands[TEAM_MAX];
    for (unsigned i = 0; i < count; i++) {
        hands[i] = (struct hand){.work = work, .arg = arg, .i = i};
        /* The last piece is this thread's, and what found no thread is done here, too. */
        hands[i].started =
            i + 1 < count && pthread_create(&hands[i].thread, NULL, hand_run, &hands[i]) == 0;
        if (hands[i].started)
            pthread_setname_np(hands[i].thread, "kvs-open");
    }
    for (unsigned i = 0; i < count; i++) {
        if (!hands[i].started)
            hand_run(&hands[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        if (hands[i].started)
            pthread_join(hands[i].thread, NULL);
    }
}
