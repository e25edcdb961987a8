/* What the parts of the program share: calls that must work, and a place for what comes. */
#ifndef INTEROP_CLIENT_H
#define INTEROP_CLIENT_H

#include <kvs/kvs.h>

#include <pthread.h>

#define TEXT_MAX 256

struct text {
    char bytes[TEXT_MAX];
};

__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

#define CHECK(condition, ...)  \
    do {                       \
        if (!(condition))      \
            fail(__VA_ARGS__); \
    } while (0)

kvs_events *client_events(void);
const char *client_prefix(void);
/* The i-th word behind the prefix. */
long word_number(int i);
kvs_slice stream_in(struct text *room, const char *name);
/* {"n":N}; `room` keeps its data. */
kvs_new_event number_event(struct text *room, int64_t n);

/* Waits; an error ends the test. `pointer_of` leaves the future to its caller. */
kvs_future *must(kvs_future *future);
void done(kvs_future *future);
const void *pointer_of(kvs_future *future);

/* The numbers that a subscription gave, in their order. Handlers put, the main thread waits. */
struct inbox {
    kvs_subscription *subscription;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t *numbers;
    size_t count, wanted, capacity;
    bool live, ended;
    int error;
    char why[TEXT_MAX];
};

void inbox_init(struct inbox *inbox, long wanted);
void inbox_put(struct inbox *inbox, int64_t number);
/* False: there were as many as wanted already. */
bool inbox_put_up_to_wanted(struct inbox *inbox, int64_t number);
void inbox_live(struct inbox *inbox);
void inbox_end(struct inbox *inbox, int error, const char *why);
/* All that follow fail the test when the subscription ends before, or takes too long. */
void inbox_wait_live(struct inbox *inbox);
void inbox_wait(struct inbox *inbox);
/* They are 0, 1, 2 ... */
void inbox_in_order(struct inbox *inbox);
void inbox_stop(struct inbox *inbox);

/* SECONDS PARTIES, see load.c. */
void load(void);

#endif
