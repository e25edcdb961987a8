/*
 * stream/stream.h: event streams over an engine: writing and reading.
 *
 * An event is appended to a stream and gets the next number there, and a position in the log of all
 * events; neither ever changes. What lies where: docs/format/streams.md.
 *
 * Every operation is a caller-owned struct that begins with a struct op: fill the request part, set
 * op.task.run and op.loop, hand it over; it completes exactly once, on its loop, never inside the
 * call. Until then it and all it points to is borrowed. op.error says whether the operation could
 * be carried out (NO_MEMORY, IO, NO_SPACE, STORAGE_FAILED, CORRUPTION, INVALID_ARGUMENT,
 * TOO_LARGE); if it is 0, `outcome` says what came of it. Zeroed memory is a fine start of every
 * request.
 *
 * Writes of one thread are carried out in the order in which they are handed over; many are on
 * their way at once, to one stream too. A write is done when it is as safe as the engine's sync
 * policy says. A read handed over after that sees it, a read before may.
 *
 * Threads: any, but where it is said otherwise.
 */
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include "base/arena.h"
#include "engine/engine.h"
#include "runtime/loop.h"

#define STREAM_NAME_SIZE_MAX 4096u
#define STREAM_TYPE_SIZE_MAX 4096u
#define STREAM_EVENT_SIZE_MAX (16u * 1024 * 1024 - 10000) /* type, data and metadata */
#define STREAM_WRITE_SIZE_MAX (64u * 1024 * 1024)         /* of all its events */
#define STREAM_WRITE_COUNT_QUICK 1024u /* more events than these are never looked at by a loop */
#define STREAM_READ_COUNT_MAX 4096u
/* Of the filter of one page, which then ends behind the event it was looking at. */
#define STREAM_READ_WORK_MAX (4u * 1024 * 1024)
#define STREAM_READ_SIZE_DEFAULT (4u * 1024 * 1024)

/* Expected versions; from 0 on: the number of the last event. */
#define STREAM_NO_STREAM (-1)
#define STREAM_ANY (-2)
#define STREAM_EXISTS (-4)

#define STREAM_NUMBER_DELETED INT64_MAX /* of a tombstone */
#define STREAM_END (-1)                 /* as `from`: the last event, the end of the log */

struct streams;

enum stream_outcome {
    STREAM_OK = 0,
    STREAM_WRONG_EXPECTED_VERSION,
    STREAM_DELETED,             /* has a tombstone; a write: also EXISTS of a soft-deleted one */
    STREAM_NOT_FOUND,           /* read: no such stream, or soft-deleted */
    STREAM_EVENT_NOT_FOUND,     /* read event: not there, or not any more */
    STREAM_ACCESS_DENIED,       /* `user` may not */
    STREAM_INVALID_TRANSACTION, /* no transaction with this id is under way */
    STREAM_BAD_REQUEST,         /* from, count: `message` says what */
};

/* Who asks; an empty login is anonymous. In requests NULL: nobody checks. */
struct stream_user {
    kvs_slice login;
    const kvs_slice *groups;
    uint32_t groups_count;
};

/* --- opening ---------------------------------------------------------------------------------- */

enum stream_projections {
    STREAM_PROJECTIONS_COMMON = 0, /* $streams, $ce-, $et- */
    STREAM_PROJECTIONS_NONE,
    STREAM_PROJECTIONS_ALL, /* $category- and $bc-, too */
};

struct streams_options {
    struct engine *engine; /* stays the caller's; families 6 to 9 of it are used */
    struct loop *loop;     /* where groups and timers live; turns until the close is done */
    enum stream_projections projections;
    bool insecure;             /* every check of rights passes */
    bool make_users;           /* admin and ops, if there has never been an admin */
    uint32_t join_blocks;      /* small blocks that are joined when so many came; 0: 1024 */
    uint64_t (*wall_ms)(void); /* the clock of $maxAge and `created`; NULL: the machine's */
};

/* Errors: what the engine says, CORRUPTION, NO_MEMORY, with a line for a person in ret_message. */
int streams_open_blocking(const struct streams_options *options, struct streams **ret_streams,
                          struct engine_message *ret_message);
/* All ops have completed, all subscriptions, consumers and watches are closed. On options.loop;
 * groups write their checkpoints, then `closed` is called there, with the memory already free. */
void streams_close(struct streams *streams, void (*closed)(void *arg), void *arg);

/* --- writing ---------------------------------------------------------------------------------- */

enum stream_write_kind {
    STREAM_WRITE_APPEND = 0,
    STREAM_WRITE_DELETE,             /* soft: numbers go on when it is written to again */
    STREAM_WRITE_TOMBSTONE,          /* hard: for ever */
    STREAM_WRITE_TRANSACTION_START,  /* gives `transaction` */
    STREAM_WRITE_TRANSACTION_APPEND, /* `stream` of these two need not be given */
    STREAM_WRITE_TRANSACTION_COMMIT,
};

struct stream_new_event {
    uint8_t id[16];
    bool is_json;
    kvs_slice type;
    kvs_slice data;
    kvs_slice metadata;
};

struct stream_write {
    struct op op;

    /* the request */
    enum stream_write_kind kind;
    kvs_slice stream;
    int64_t expected_version; /* append, deletes, transaction start */
    const struct stream_new_event *events;
    uint32_t count;
    /* NULL; or sets the two, where that takes long: called once, in the write's turn and never on a
     * loop. Its error is that of the write. */
    int (*load_events)(struct stream_write *write);
    uint64_t transaction;
    const struct stream_user *user;

    /* the result */
    enum stream_outcome outcome;
    int64_t first_number; /* -1 when nothing was written; count 0: one more than last_number */
    int64_t last_number;
    int64_t position;        /* of the last event, or -1 */
    int64_t current_version; /* WRONG_EXPECTED_VERSION: the last number that the stream has */
    bool was_there;          /* all events were written before: a retry */

    /* the streams' own, zero at first */
    bool gives_back; /* a scavenge finds something to remove for it */
    bool again;      /* did so, and was refused with others for lack of space */
    void *state[8];
};

void streams_write(struct streams *streams, struct stream_write *write);
/* A chain, by op.task: in order, handed over at once. */
void streams_write_list(struct streams *streams, struct task_list *writes);

/* --- reading ---------------------------------------------------------------------------------- */

struct stream_record {
    kvs_slice stream;
    int64_t number;
    int64_t position; /* of a link made by a derived stream: that of what it links to */
    uint8_t id[16];
    bool is_json;
    int64_t created_100ns; /* since 1970 */
    kvs_slice type;
    kvs_slice data;
    kvs_slice metadata;
};

/* What a read gives: a record, or a link and, unless that cannot be found or may not be read, what
 * it leads to. */
struct stream_event {
    bool has_event;
    bool has_link;
    struct stream_record event;
    struct stream_record link;
};

/* The link if there is one, else the event: whose number, id and position count. */
static inline const struct stream_record *stream_event_original(const struct stream_event *event)
{
    return event->has_link ? &event->link : &event->event;
}

enum stream_filter_subject { STREAM_FILTER_STREAM = 0, STREAM_FILTER_TYPE = 1 };

struct stream_filter; /* immutable; may be used by many at once */

/* `is_regex`: patterns[0] anywhere in the text; else: begins with one of the patterns.
 * INVALID_ARGUMENT: not a pattern that stream/pattern.h knows; TOO_LARGE; NO_MEMORY. */
int stream_filter_new(enum stream_filter_subject subject, bool is_regex, const kvs_slice *patterns,
                      uint32_t count, struct stream_filter **ret_filter);
void stream_filter_free(struct stream_filter *filter);

enum stream_read_kind {
    STREAM_READ_EVENT = 0,    /* number `from`, or STREAM_END: one event */
    STREAM_READ_FORWARD,      /* from `from` on */
    STREAM_READ_BACKWARD,     /* from `from` or STREAM_END on, descending */
    STREAM_READ_ALL_FORWARD,  /* positions >= `from` */
    STREAM_READ_ALL_BACKWARD, /* positions < `from`, or STREAM_END: from the end */
    STREAM_READ_INFO,         /* no events: only what the results say of the stream */
};

#define STREAM_READ_RESOLVE_LINKS 1u
/* What $maxCount, $maxAge and $tb hide is given, too, while it is there, and tombstones as events:
 * what a subscription that began earlier must not miss. Forward only. */
#define STREAM_READ_HIDDEN 2u

struct stream_read {
    struct op op;

    /* the request */
    enum stream_read_kind kind;
    unsigned flags;
    kvs_slice stream;
    int64_t from;
    uint32_t count;         /* 1 to STREAM_READ_COUNT_MAX */
    uint32_t size_max;      /* bytes of the page, but one event at least; 0: the default */
    uint32_t search_window; /* all, with a filter: events to look at, at most; 0: count */
    const struct stream_filter *filter;
    const struct stream_user *user;

    /* the result; what it points to lives until stream_read_release */
    enum stream_outcome outcome;
    const char *message; /* BAD_REQUEST; static */
    struct stream_event *events;
    uint32_t events_count;
    int64_t next;          /* `from` of the read that goes on; -1: backward, at the end */
    bool end;              /* nothing is behind `next` by now */
    int64_t last_number;   /* of the stream: -1 none, STREAM_NUMBER_DELETED */
    int64_t last_position; /* of the whole log; 0: it is empty */
    int64_t considered;    /* all: events that were looked at, matching or not */
    uint64_t work;         /* steps of a few ns: of filters, and of links that were followed */
    int64_t cache_control; /* seconds, 0: not said */

    /* the streams' own */
    struct arena arena;
    struct streams *streams;
    struct engine_read engine_read;
};

/* Answers from memory, inside the call: true when the result is there (op is not completed); false:
 * it has to be handed over. */
bool streams_read_answer(struct streams *streams, struct stream_read *read);
void streams_read(struct streams *streams, struct stream_read *read);
/* After each read that was answered or has completed, before the struct is used again. */
void stream_read_release(struct stream_read *read);

/* The position of the last event that is safe; 0: there is none. */
int64_t streams_last_position(struct streams *streams);

/* --- access, settings ------------------------------------------------------------------------- */

enum stream_right {
    STREAM_RIGHT_READ = 0,
    STREAM_RIGHT_WRITE,
    STREAM_RIGHT_DELETE,
    STREAM_RIGHT_META_READ,
    STREAM_RIGHT_META_WRITE,
    STREAM_RIGHTS,
};

/* Is one of the user's groups $admins or $ops, or is it the user admin or ops? NULL: true. */
bool stream_user_is_somebody(const struct stream_user *user); /* who has logged in */
bool stream_user_is_operator(const struct stream_user *user);
bool stream_user_is_admin(const struct stream_user *user);

/* --- space, statistics ------------------------------------------------------------------------ */

/* Removes what truncation, deletion and age have hidden, joins small blocks, and has the engine
 * give the space back. One at a time: BUSY. Reads and writes go on beside it. */
struct stream_scavenge {
    struct op op;
    _Atomic bool stop; /* set by the caller, at any time, on any thread: ends with CANCELLED */

    /* the result */
    uint64_t events_removed;
    uint64_t bytes_removed; /* of them */
    uint64_t runs_removed;

    /* the streams' own */
    struct streams *streams;
    void *state;
};
void streams_scavenge(struct streams *streams, struct stream_scavenge *scavenge);

struct streams_stats {
    uint64_t appends; /* writes that were carried out, since open */
    uint64_t events;  /* written by them */
    uint64_t batches; /* handed to the engine */
    uint64_t reads;
    uint64_t events_read;
    uint64_t retries_found; /* was_there */
    uint64_t joins;         /* of small blocks, begun */
    uint64_t subscriptions; /* open now */
    uint64_t groups;
    uint64_t streams_cached;
    int64_t last_position;
};
void streams_stats(struct streams *streams, struct streams_stats *ret_stats);

#endif
