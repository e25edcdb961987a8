/* A place for what subscriptions give; see client.h. */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { WAIT_SECONDS_MAX = 120 };

void inbox_init(struct inbox *inbox, long wanted)
{
    *inbox = (struct inbox){.wanted = (size_t)wanted};
    pthread_mutex_init(&inbox->lock, NULL);
    pthread_cond_init(&inbox->changed, NULL);
}

static void append(struct inbox *inbox, int64_t number)
{
    if (inbox->count == inbox->capacity) {
        inbox->capacity = inbox->capacity * 2 + 1024;
        inbox->numbers = realloc(inbox->numbers, inbox->capacity * sizeof inbox->numbers[0]);
        if (inbox->numbers == NULL)
            abort();
    }
    inbox->numbers[inbox->count++] = number;
}

bool inbox_put_up_to_wanted(struct inbox *inbox, int64_t number)
{
    pthread_mutex_lock(&inbox->lock);
    bool room = inbox->count < inbox->wanted;
    if (room)
        append(inbox, number);
    pthread_cond_broadcast(&inbox->changed);
    pthread_mutex_unlock(&inbox->lock);
    return room;
}

void inbox_put(struct inbox *inbox, int64_t number)
{
    pthread_mutex_lock(&inbox->lock);
    append(inbox, number);
    pthread_cond_broadcast(&inbox->changed);
    pthread_mutex_unlock(&inbox->lock);
}

void inbox_live(struct inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->live = true;
    pthread_cond_broadcast(&inbox->changed);
    pthread_mutex_unlock(&inbox->lock);
}

void inbox_end(struct inbox *inbox, int error, const char *why)
{
    pthread_mutex_lock(&inbox->lock);
    inbox->ended = true;
    inbox->error = error;
    snprintf(inbox->why, sizeof inbox->why, "%s", why);
    pthread_cond_broadcast(&inbox->changed);
    pthread_mutex_unlock(&inbox->lock);
}

/* Waits for one of the three; false: it took too long. */
static bool wait_until(struct inbox *inbox, bool live, bool all, bool ended)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_SECONDS_MAX;
    int error = 0;
    pthread_mutex_lock(&inbox->lock);
    while (error == 0 && !inbox->ended && !(live && inbox->live) &&
           !(all && inbox->count >= inbox->wanted))
        error = pthread_cond_timedwait(&inbox->changed, &inbox->lock, &until);
    bool good = error == 0 && inbox->ended == ended;
    pthread_mutex_unlock(&inbox->lock);
    return good;
}

void inbox_wait_live(struct inbox *inbox)
{
    CHECK(wait_until(inbox, true, false, false), "it is not live: %s", inbox->why);
}

void inbox_wait(struct inbox *inbox)
{
    CHECK(wait_until(inbox, false, true, false), "%zu of %zu events came; %s", inbox->count,
          inbox->wanted, inbox->why);
}

void inbox_in_order(struct inbox *inbox)
{
    CHECK(inbox->count == inbox->wanted, "%zu events came, not %zu", inbox->count, inbox->wanted);
    for (size_t i = 0; i < inbox->count; i++)
        CHECK(inbox->numbers[i] == (int64_t)i, "%lld came as the %zu. event",
              (long long)inbox->numbers[i], i);
}

void inbox_stop(struct inbox *inbox)
{
    kvs_subscription_stop(inbox->subscription);
    CHECK(wait_until(inbox, false, false, true) && inbox->error == 0, "it does not end: %s",
          inbox->why);
    kvs_subscription_free(inbox->subscription);
    free(inbox->numbers);
}
