/*
 * stream/groups.h: the parts of persistent subscription groups.
 *
 *   groups.c           all groups: calls, their order, opening and closing
 *   groups_config.c    $persistentSubscriptionConfig
 *   groups_info.c      what they are doing
 *   group.c            one group: its checkpoint, reading its stream, its end
 *   group_dispatch.c   members, strategies, acknowledgements, time limits
 *   group_park.c       parked events: parking, replaying
 *
 * All of it runs on the loop of the streams. A consumer has a member there, which is reached by
 * tasks; what a member is sent goes to the consumer's loop by tasks, too: so they stay in order,
 * and the drop is the last one. Then the consumer's loop posts the task that frees the member: it
 * comes after the acknowledgements that were sent before.
 */
#ifndef STREAM_GROUPS_H
#define STREAM_GROUPS_H

#include "stream/group.h"
#include "stream/streams.h"

#include <uv.h>

#define GROUPS_MAX 10000u
#define GROUP_NAME_SIZE_MAX 1024u
#define GROUP_CONSUMER_SLOTS_MAX 10000
#define GROUP_TICK_MS 200u
#define GROUP_BUFFER_BYTES_MAX (16u * 1024 * 1024)
#define GROUP_CONFIG_STREAM "$persistentSubscriptionConfig"

struct group;
struct member;
struct parking;

/* An event under way. */
struct message {
    struct list node; /* fresh, retry, parking, or its member's sent */
    atomic_uint refs; /* the group's, and deliveries' */
    int64_t number;   /* of its original, in the group's stream or, replayed, the parked one */
    int32_t retries;
    bool replayed; /* from the parked stream: its number plays no part in checkpoints */
    uint64_t pin;  /* for pinned strategies */
    uint64_t sent_ms;
    struct message *next_sent; /* chain of its member's, by a hash of its id */
    struct parking *parking;   /* while it is being parked; NULL: to be begun */
    size_t size;
    struct stream_event event;
    uint8_t bytes[];
};

enum member_state { MEMBER_CONNECTING = 0, MEMBER_IN, MEMBER_DROPPED };

struct member {
    struct list node;
    uint64_t id;
    struct groups *groups;
    struct group *group; /* NULL: it has been dropped */
    struct stream_consumer *consumer;
    struct loop *loop; /* the consumer's */
    int32_t slots;
    struct list sent; /* messages, in the order in which they were sent */
    int32_t sent_count;
    _Atomic uint64_t acks_waiting; /* bytes of acknowledgements that are on their way */
    uint64_t total;
    uint64_t total_at_tick;
    uint64_t per_second;
    enum member_state state;
    bool leaves; /* asked to while it was connecting */
    bool lost;
    enum stream_drop drop;
    int drop_error;
    struct stream_read read;  /* may the user? */
    struct task connect_task; /* to the group's loop, */
    struct task confirm_task; /* to the consumer's, */
    struct task leave_task;   /* to the group's, */
    struct task drop_task;    /* to the consumer's, and back, to be freed */
    bool closed;              /* by the consumer: its loop's */
    char *texts;              /* address, user, name: copies for information */
    kvs_slice from, user, name;
    uint32_t sent_mask; /* so many chains of what was sent, less one */
    struct message *sent_chains[];
};

enum group_phase {
    GROUP_NEW = 0, /* is being made: not in the written configuration yet, ticks leave it alone */
    GROUP_LOADING, /* reads its checkpoint and what is parked */
    GROUP_RUNNING,
    GROUP_STOPPING, /* its subscription closes, its writes end */
};

struct group {
    struct list node;
    struct groups *groups;
    struct streams *streams;
    enum group_phase phase;
    struct stream_group_settings settings;
    int64_t start_at; /* settings.start_from, with STREAM_END resolved when it was made */
    kvs_slice stream, name;
    char *names; /* of all streams of the group */
    kvs_slice checkpoint_stream, parked_stream, parked_metastream;

    /* reading */
    struct stream_read load;
    struct stream_subscription subscription;
    bool subscribed;
    const struct stream_event *page; /* events that were not taken yet */
    uint32_t page_count;
    int64_t next_number; /* behind what was taken */
    int64_t last_known;

    /* what is under way */
    struct list fresh, retry, parking; /* messages, ascending */
    uint32_t fresh_count, retry_count, parking_count;
    size_t bytes;
    struct list members;
    uint32_t members_count;
    uint64_t next_member;
    uint64_t total;
    uint64_t total_at_tick;
    uint64_t per_second;
    uint64_t rate_since_ms;

    /* checkpoint */
    struct stream_write checkpoint_write;
    struct stream_new_event checkpoint_event;
    char checkpoint_text[24];
    bool checkpoint_writing;
    int64_t checkpoint; /* the last that is safe; -1 */
    int64_t checkpoint_next;
    uint64_t done_since;    /* messages since the last one was begun */
    uint64_t done_at_write; /* ... and until then */
    uint64_t checkpoint_ms;

    /* parked */
    uint64_t parked_ids;
    int64_t parked_first, parked_last; /* numbers in the parked stream: first visible, last */
    struct stream_read replay_read;    /* of a link, with its event */
    struct stream_write replay_write;
    struct stream_new_event replay_metadata;
    char replay_text[128];
    bool replaying, replay_again;
    bool replay_busy;      /* the read, or the write, is under way */
    int64_t replay_cursor; /* the next link, ... */
    int64_t replay_to;     /* ... up to this one */
    int64_t replay_again_limit;
    uint32_t replayed_count; /* messages under way */

    /* the end */
    void (*stopped)(struct group *group, void *arg);
    void *stopped_arg;
    bool stop_checkpointed;
};

struct groups {
    struct streams *streams;
    struct list all;
    uint32_t count;
    uint64_t sent_seed;
    uv_timer_t tick; /* while there are groups */
    struct task start_task;

    /* calls: one after the other */
    struct stream_group_call *first_call, *last_call; /* the first is under way */
    bool info_waits;                                  /* it asks of groups that are loading */
    struct group *call_group;
    int64_t call_start_at;
    struct stream_read call_read;
    struct stream_write call_write;
    struct stream_new_event call_event;
    struct buf call_text;
    uint64_t call_ids;

    /* closing */
    atomic_uint members; /* allocated */
    uint32_t stopping;   /* groups, and 1 for the timer */
    void (*closed)(struct streams *streams);
    struct task close_task;
};

/* --- groups.c --------------------------------------------------------------------------------- */

/* Reads the configuration; the groups begin on the loop. Blocking. */
int groups_open_blocking(struct streams *streams);
/* On the loop. */
void groups_close(struct streams *streams, void (*closed)(struct streams *streams));
void groups_free(struct groups *groups);
/* A group needs ticks from now on. */
void groups_tick_begin(struct groups *groups);
struct group *groups_find(struct groups *groups, kvs_slice stream, kvs_slice name);
/* A group has loaded, or could not. */
void groups_on_loaded(struct groups *groups);

/* --- groups_config.c -------------------------------------------------------------------------- */

/* One group as it is to be, in place of what it is. */
struct group_change {
    const struct group *group;
    const struct stream_group_settings *settings; /* NULL: it is left out */
    int64_t start_at;
};

/* Appends the text for all groups. */
int groups_config_write(const struct groups *groups, const struct group_change *change,
                        kvs_slice by, struct buf *to);
/* Makes the groups of the text. What is not understood is left out, with a warning. */
int groups_config_read(struct groups *groups, kvs_slice text);
/* What is wrong with the settings, or NULL. */
const char *group_settings_problem(const struct stream_group_settings *settings);

/* --- groups_info.c ---------------------------------------------------------------------------- */

/* Does it ask of groups that do not know yet where they are? */
bool groups_info_must_wait(struct groups *groups, const struct stream_group_call *call);
int groups_info(struct groups *groups, struct stream_group_call *call);

/* --- group.c ---------------------------------------------------------------------------------- */

int group_new(struct groups *groups, kvs_slice stream, kvs_slice name, struct group **ret_group);
void group_free(struct group *group);
/* From the checkpoint on. */
void group_start(struct group *group);
/* It reads its checkpoint, or what is parked. */
static inline bool group_is_loading(const struct group *group)
{
    return group->load.op.task.run != NULL;
}
/* Drops the members, writes a checkpoint, forgets what is under way, then calls stopped. */
void group_stop(struct group *group, enum stream_drop drop,
                void (*stopped)(struct group *group, void *arg), void *arg);
/* One of its writes or reads has ended: has it stopped? */
void group_stop_continue(struct group *group);
void group_tick(struct group *group, uint64_t now_ms);
/* There may be room for more. */
void group_read_on(struct group *group);
/* Messages are done: is it time for a checkpoint? */
void group_checkpoint_consider(struct group *group, uint64_t now_ms, bool now);

int message_new(const struct stream_event *event, struct message **ret_message);
void message_unref(struct message *message);

/* --- group_dispatch.c ------------------------------------------------------------------------- */

/* Sends what can be sent. */
void group_dispatch(struct group *group);
void group_expire(struct group *group, uint64_t now_ms);
void group_drop_members(struct group *group, enum stream_drop drop);
void group_retry_add(struct group *group, struct message *message);
/* It is done: acknowledged, skipped or parked. Out of all lists. */
void group_message_done(struct group *group, struct message *message);
uint64_t message_pin(enum stream_strategy strategy, const struct stream_event *event);

/* --- group_park.c ----------------------------------------------------------------------------- */

void group_park(struct group *group, struct message *message, kvs_slice reason);
/* What could not be parked is tried again. */
void group_park_tick(struct group *group);
void group_replay(struct group *group, int64_t limit);
/* The one that was asked for while it could not begin. */
void group_replay_asked(struct group *group);
void group_replay_continue(struct group *group);
bool group_park_is_idle(struct group *group);
/* The group stops: what waits to be parked is left to the checkpoint. */
void group_park_forget(struct group *group);

#endif
