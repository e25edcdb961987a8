/* server/tikv_parts.h: what the files of the TiKV service share. */
#ifndef SERVER_TIKV_PARTS_H
#define SERVER_TIKV_PARTS_H

#include "errorpb.pb-c.h"
#include "kvrpcpb.pb-c.h"
#include "proto/tikv/key.h"
#include "server/tikv_service.h"
#include "txn/node.h"

/* Limits; the first two are TiKV's own. */
#define TIKV_ENTRY_SIZE_MAX (8u * 1024 * 1024)    /* of one write; over it: RaftEntryTooLarge */
#define TIKV_TERM 6u                              /* of every region: there are no elections */
#define TIKV_MESSAGE_SIZE_MAX (64u * 1024 * 1024) /* of an answer made in one piece */
#define TIKV_ANSWER_SIZE_MAX (INT32_MAX - 4096)   /* of others: what all of protobuf can read */
#define TIKV_ANSWER_LARGE (64u * 1024 * 1024)     /* one that leaves memory to others */
#define TIKV_WRITES_BYTES_MAX (64u * 1024 * 1024) /* under way on one loop */

struct tikv_command;

/* Where an answer has what went wrong. */
enum tikv_error_place {
    TIKV_ERROR_TEXT,      /* field 2, a text */
    TIKV_ERROR_TEXT_1,    /* field 1, a text */
    TIKV_ERROR_PAIR,      /* in a pair, field 2 */
    TIKV_ERROR_KEY,       /* field 2, a KeyError */
    TIKV_ERROR_KEYS,      /* the same, a list */
    TIKV_ERROR_BATCH_GET, /* field 5, a KeyError, and in a pair, field 2 */
    TIKV_ERROR_SCAN,      /* field 3, a KeyError, and in a pair, field 2 */
};

/* One kind of command. */
struct tikv_method {
    const char *path;
    uint32_t number; /* in BatchCommands; 0: only by itself */
    const ProtobufCMessageDescriptor *request;
    void (*run)(struct tikv_command *command);
    enum tikv_error_place error_place;
};

/* A unary call, or what one BatchCommands message brought; in its own arena. */
struct tikv_message {
    struct tikv_service_loop *at;
    struct rpc *rpc; /* held */
    struct rpc_arena *arena;
    size_t pending; /* commands not answered, and 1 while it is being read */
    size_t charged; /* of at->writes_bytes, until all is answered */
    bool is_stream;
    bool has_view;
    struct txn_view view;              /* of the loop, while it is being read */
    const struct region_list *regions; /* likewise */
};

/* In the arena of its message. Answered exactly once, which ends it. */
struct tikv_command {
    struct tikv_message *message;
    const struct tikv_method *method;
    const ProtobufCMessage *request;
    uint64_t id; /* in the stream */
};

static inline struct arena *command_arena(struct tikv_command *command)
{
    return &command->message->arena->arena;
}

static inline struct tikv_service_loop *command_at(struct tikv_command *command)
{
    return command->message->at;
}

/* To tell it from others. */
static inline const void *command_connection(struct tikv_command *command)
{
    return command->message->rpc->connection;
}

static inline kvs_slice bytes_slice(ProtobufCBinaryData bytes)
{
    return slice_make(bytes.data, bytes.len);
}

static inline ProtobufCBinaryData slice_bytes(kvs_slice slice)
{
    return (ProtobufCBinaryData){.len = slice.size, .data = (uint8_t *)slice.data};
}

/* --- tikv_service.c: answers ------------------------------------------------------------------ */

/* The body of an answer, copied. */
void tikv_answer(struct tikv_command *command, kvs_slice body);
void tikv_answer_message(struct tikv_command *command, const ProtobufCMessage *message);
/* The body may be large: its pieces are taken. */
void tikv_answer_rope(struct tikv_command *command, struct rope *body);
/* Room in such a body, which counts in the service's budget. TOO_LARGE: nobody could take it. BUSY:
 * all answers together are too large. Any thread. */
int tikv_body_room(struct tikv_service *service, struct rope *body, size_t size,
                   uint8_t **ret_room);
/* An error text, where this kind of answer has it; in a KeyError it is `abort`. */
void tikv_answer_error(struct tikv_command *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Nobody could take it; a shorter one would look like the end. */
void tikv_answer_too_large(struct tikv_command *command, size_t size_max);
/* A read that ended with an error. */
void tikv_answer_read_error(struct tikv_command *command, int error);
/* Ends the call with a status. */
void tikv_fail(struct tikv_command *command, enum grpc_code code, const char *text);
void tikv_fail_no_memory(struct tikv_command *command);
/* The answer to an error of the engine. */
void tikv_answer_engine_error(struct tikv_command *command, int error);

void tikv_answer_key_error(struct tikv_command *command, Kvrpcpb__KeyError *error);

/* The view of the loop for the message; NULL: there is none now. */
struct engine_view *tikv_view(struct tikv_message *message);
struct txn_view *tikv_txn_view(struct tikv_message *message);
/* Counts the message as under way until its last command is answered, for those that may take long.
 * False: too much is. */
bool tikv_message_charge(struct tikv_message *message);

/* An error of the engine, for the log; tikv_answer_engine_error does it, too. */
void tikv_note_storage(struct tikv_command *command, int error);

/* --- tikv_region.c: region errors, and where a command goes ----------------------------------- */

void tikv_answer_busy(struct tikv_command *command, const char *reason);
void tikv_answer_disk_full(struct tikv_command *command);
/* What was written may be there after a restart, or not. */
void tikv_answer_undetermined(struct tikv_command *command, const char *reason);
/* Only with a text: the client tries again. */
void tikv_answer_region_text(struct tikv_command *command, const char *text);
void tikv_answer_entry_too_large(struct tikv_command *command, uint64_t region_id, uint64_t size);
/* The request's epoch, and what is there now. NULL: no memory. */
void tikv_answer_epoch(struct tikv_command *command, const Kvrpcpb__Context *context,
                       const struct region *region);
/* For answers; NULL: no memory. */
Metapb__Region *tikv_region_message(struct arena *arena, const struct region *region);

/* Where a command goes, and how its keys are written. */
struct tikv_place {
    struct tikv_command *command;
    const Kvrpcpb__Context *context;
    const struct region *region;
    uint8_t family;
    char mode; /* of keys of API V2: KEY_MODE_RAW, KEY_MODE_TXN */
    bool is_v2;
    bool is_encoded; /* keys are stored so */
};

/* Each returns false when it has answered with an error. To be called in this order. */
bool tikv_place_begin(struct tikv_place *place, struct tikv_command *command,
                      const Kvrpcpb__Context *context, const char *family);
/* The same for a command of transactions. */
bool tikv_place_begin_txn(struct tikv_place *place, struct tikv_command *command,
                          const Kvrpcpb__Context *context);
bool tikv_place_key(struct tikv_place *place, kvs_slice key); /* its mode */
bool tikv_place_key_size(struct tikv_place *place, kvs_slice key);
bool tikv_place_write_key(struct tikv_place *place, kvs_slice key); /* and its size */
bool tikv_place_range(struct tikv_place *place, kvs_slice start, kvs_slice end);
bool tikv_place_region(struct tikv_place *place);
bool tikv_place_has(struct tikv_place *place, kvs_slice key);
/* Cuts the range to the region; the result is in the command's arena. */
bool tikv_place_clip(struct tikv_place *place, kvs_slice start, kvs_slice end, kvs_slice *ret_start,
                     kvs_slice *ret_end);
/* For a bound of a range that the client computed: not behind the region's end. */
bool tikv_place_has_end(struct tikv_place *place, kvs_slice end);

/* --- the commands ----------------------------------------------------------------------------- */

/* tikv_read.c */
void tikv_raw_get(struct tikv_command *command);
void tikv_raw_batch_get(struct tikv_command *command);
void tikv_raw_scan(struct tikv_command *command);
void tikv_raw_batch_scan(struct tikv_command *command);
void tikv_raw_get_key_ttl(struct tikv_command *command);
void tikv_raw_checksum(struct tikv_command *command);

/* tikv_write.c */
void tikv_raw_put(struct tikv_command *command);
void tikv_raw_batch_put(struct tikv_command *command);
void tikv_raw_delete(struct tikv_command *command);
void tikv_raw_batch_delete(struct tikv_command *command);
void tikv_raw_delete_range(struct tikv_command *command);
void tikv_raw_cas(struct tikv_command *command);
void tikv_writes_submit(struct tikv_service_loop *at);

/* tikv_txn.c */
void tikv_txn_submit(struct tikv_service_loop *at);

/* tikv_txn_read.c */
void tikv_kv_get(struct tikv_command *command);
void tikv_kv_batch_get(struct tikv_command *command);
void tikv_kv_buffer_batch_get(struct tikv_command *command);
void tikv_kv_scan(struct tikv_command *command);
void tikv_kv_scan_lock(struct tikv_command *command);
void tikv_physical_scan_lock(struct tikv_command *command);
void tikv_mvcc_by_key(struct tikv_command *command);
void tikv_mvcc_by_start_ts(struct tikv_command *command);

/* tikv_txn_write.c */
void tikv_kv_prewrite(struct tikv_command *command);
void tikv_kv_flush(struct tikv_command *command);
void tikv_kv_commit(struct tikv_command *command);
void tikv_kv_batch_rollback(struct tikv_command *command);
void tikv_kv_cleanup(struct tikv_command *command);
void tikv_kv_pessimistic_lock(struct tikv_command *command);
void tikv_kv_pessimistic_rollback(struct tikv_command *command);
void tikv_kv_heart_beat(struct tikv_command *command);

/* tikv_txn_resolve.c */
void tikv_kv_check_status(struct tikv_command *command);
void tikv_kv_check_secondaries(struct tikv_command *command);
void tikv_kv_resolve_lock(struct tikv_command *command);
void tikv_kv_delete_range(struct tikv_command *command);
void tikv_unsafe_destroy_range(struct tikv_command *command);
void tikv_kv_gc(struct tikv_command *command);
void tikv_lock_observer(struct tikv_command *command);
void tikv_check_lock_observer(struct tikv_command *command);
void tikv_lock_wait_info(struct tikv_command *command);
void tikv_broadcast_status(struct tikv_command *command);

/* tikv_admin.c */
void tikv_raw_coprocessor(struct tikv_command *command);
void tikv_coprocessor(struct tikv_command *command);
void tikv_split_region(struct tikv_command *command);
void tikv_store_safe_ts(struct tikv_command *command);
void tikv_health_feedback(struct tikv_command *command);
void tikv_empty(struct tikv_command *command);
/* Answers those whose time has come; all, when the loop closes. */
void tikv_delayed_run(struct tikv_service_loop *at);

#endif
