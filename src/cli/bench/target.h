/*
 * cli/bench/target.h: what the load generator must know of a protocol: a small table of methods.
 *
 * Everything else (connections, pacing, latencies) is the same code for every protocol, so that
 * servers are compared and not generators. A method sees bytes only, except greet.
 *
 * The life of a target:
 *   1. target_open reads KIND://HOST[:PORT] and finds the address
 *   2. target_prepare writes the parts of the requests that never change
 *   3. greet, once per connection, on the still blocking socket
 *   4. encode and parse, from then on, on any thread: the target itself does not change any more
 *
 * Failure: a reply that breaks the protocol makes parse fail with KVS_ERR_PROTOCOL, and the
 * connection is given up. All bytes of a reply are hostile: whatever a server says, parse reads
 * only what it is given and never asks for more than TARGET_CARRY_MAX bytes to be kept for it.
 */
#ifndef CLI_BENCH_TARGET_H
#define CLI_BENCH_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    TARGET_CARRY_MAX = 512, /* the most bytes of an unfinished reply that parse leaves behind */
    TARGET_TEXT_MAX = 256,  /* room for a message */
};

enum operation { OPERATION_SET, OPERATION_GET, OPERATION_TXN, OPERATION_COUNT };

enum outcome { OUTCOME_OK, OUTCOME_MISS, OUTCOME_ERROR };

struct reply {
    uint32_t id; /* of the request; meaningless when the target answers in order */
    enum outcome outcome;
    const uint8_t *text; /* of an error; valid until the next call of parse; may be NULL */
    size_t text_size;
};

/* What parse must remember of a connection between two calls; begins as zeros. */
struct parser {
    uint64_t skip;     /* bytes of a value that are still to come and to be passed over */
    struct reply held; /* the reply they belong to */
    bool unasked;      /* ... which answers no request, and is dropped */
};

struct target;
struct worker;

struct target_methods {
    const char *kind;
    const char *port; /* where none is given; of the kinds that run leaves to this table */
    bool ordered;     /* replies come in the order of the requests and carry no id */

    /* Instead of a table of bytes: the load goes through libkvs, see worker_store.h and
     * worker_events.h. check opens and closes, and returns 0 or an error with a message in text
     * (TARGET_TEXT_MAX bytes). */
    int (*check)(const struct target *target, char *text);
    void (*run)(struct worker *worker);

    /* Fills target->parts; false when key or value is too large for the protocol. */
    bool (*prepare)(struct target *target);

    /* The first exchange on a new connection whose socket blocks (with a time limit). Returns 0 or
     * a negative error, with a message in text (TARGET_TEXT_MAX bytes). */
    int (*greet)(const struct target *target, int fd, char *text);

    /* Writes one request, at most target->request_size_max bytes, and returns its size. (It may
     * scribble over bytes behind the request, within request_size_max.) */
    size_t (*encode)(const struct target *target, uint8_t *out, enum operation operation,
                     uint32_t id, const uint8_t *key, const uint8_t *value);

    /* Reads up to `replies_max` (> 0) replies from data. Sets *ret_count, and *ret_used to the
     * bytes done with; with room left in replies, the rest is the unfinished beginning of a reply.
     * Returns 0 or KVS_ERR_PROTOCOL; the replies before the fault are given then, too. */
    int (*parse)(const struct target *target, struct parser *parser, const uint8_t *data,
                 size_t size, struct reply *replies, size_t replies_max, size_t *ret_count,
                 size_t *ret_used);
};

struct target_part {
    uint8_t bytes[96];
    size_t size;
};

/* Files in PEM; any: TLS. */
struct target_tls {
    const char *ca, *certificate, *key;
};

enum target_events_kind {
    TARGET_EVENTS_APPEND,
    TARGET_EVENTS_READ,
    TARGET_EVENTS_SUBSCRIBE,
    TARGET_EVENTS_LIVE,
};

/* What is done with event streams. */
struct target_events {
    enum target_events_kind kind;
    uint32_t batch; /* events of an append */
    uint32_t page;  /* events of a read */
    const char *stream;
};

struct target {
    const struct target_methods *methods;
    const char *url;
    struct target_events events;
    struct target_tls tls;
    unsigned sync; /* enum kvs_sync, of a directory */
    char host[256];
    char port[8];
    struct sockaddr_storage address;
    socklen_t address_size;
    size_t key_size, value_size;
    size_t request_size_max;
    struct target_part parts[3]; /* what they mean is the methods' own business */
};

extern const struct target_methods target_redis;
extern const struct target_methods target_kvs;
extern const struct target_methods target_tikv;
extern const struct target_methods target_log; /* in this process, as the next */
extern const struct target_methods target_memory;
extern const struct target_methods target_esdb;
extern const struct target_methods target_esdb_discover;

/* Is its data in this process? Then there is one client of it. */
bool target_is_in_process(const char *url);

/* Can requests be sent when they are due? Else only as answers come. */
bool target_takes_rate(const char *url);

/* Is it a URL of event streams? */
bool target_is_events(const char *url);

/* Is it a kind of store that has transactions? Of a target that was parsed. */
bool target_takes_transactions(const struct target *target);

/* What can be said of a URL without asking anybody: it is none, or cannot have TLS. Returns and
 * borrows as target_open. */
int target_parse(struct target *target, const char *url, const struct target_tls *tls, char *text);

/* Returns 0 or a negative error with a message in text (TARGET_TEXT_MAX bytes). Blocks for the
 * name look-up. tls may be NULL; its texts and the URL are borrowed. */
int target_open(struct target *target, const char *url, const struct target_tls *tls, char *text);
bool target_prepare(struct target *target, size_t key_size, size_t value_size);

/* A connected, greeted, still blocking socket in *ret_fd. Returns 0 or a negative error with a
 * message in text. Blocks, at most `timeout_ms` in each step. */
int target_connect(const struct target *target, unsigned timeout_ms, int *ret_fd, char *text);

/* For greet: all of `size` bytes or a negative error. */
int target_send(int fd, const void *data, size_t size);
int target_receive(int fd, void *data, size_t size);

#endif
