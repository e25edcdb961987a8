/* engine/log/team.c: see engine/log/team.h. */
#include "engine/log/team.h"

#include "base/machine.h"
#include "runtime/thread.h"

#include <pthread.h>
#include <stdbool.h>

struct hand {
    pthread_t thread;
    bool started;
    void (*work)(void *arg, unsigned i);
    void *arg;
    unsigned i;
};

unsigned team_count(uint64_t size, uint64_t unit)
{
    uint64_t count = machine_processors();
    if (count > TEAM_MAX)
        count = TEAM_MAX;
    if (count > size / unit + 1)
        count = size / unit + 1;
    return (unsigned)count;
}

static void *hand_run(void *arg)
{
    const struct hand *hand = arg;
    thread_give_way();
    hand->work(hand->arg, hand->i);
    return NULL;
}

void team_run(unsigned count, void (*work)(void *arg, unsigned i), void *arg)
{
    if (count == 1) {
        work(arg, 0);
        return;
    }
    struct hand hands[TEAM_MAX];
    for (unsigned i = 0; i < count; i++) {
        hands[i] = (struct hand){.work = work, .arg = arg, .i = i};
        hands[i].started = thread_start(&hands[i].thread, "kvs-open", hand_run, &hands[i]) == 0;
    }
    for (unsigned i = 0; i < count; i++) {
        if (!hands[i].started)
            work(arg, i);
    }
    for (unsigned i = 0; i < count; i++) {
        if (hands[i].started)
            pthread_join(hands[i].thread, NULL);
    }
}
