/* txn/command.c: commands as their owners see them. */
#include "txn/command.h"

#include <string.h>

static size_t command_size(enum txn_command_kind kind)
{
    switch (kind) {
    case TXN_GET:
        return sizeof(struct txn_get);
    case TXN_BATCH_GET:
    case TXN_BUFFER_GET:
        return sizeof(struct txn_batch_get);
    case TXN_SCAN:
        return sizeof(struct txn_scan);
    case TXN_SCAN_LOCK:
        return sizeof(struct txn_scan_lock);
    case TXN_PREWRITE:
        return sizeof(struct txn_prewrite);
    case TXN_COMMIT:
        return sizeof(struct txn_commit);
    case TXN_BATCH_ROLLBACK:
        return sizeof(struct txn_batch_rollback);
    case TXN_CLEANUP:
        return sizeof(struct txn_cleanup);
    case TXN_PESSIMISTIC_LOCK:
        return sizeof(struct txn_pessimistic_lock);
    case TXN_PESSIMISTIC_ROLLBACK:
        return sizeof(struct txn_pessimistic_rollback);
    case TXN_HEARTBEAT:
        return sizeof(struct txn_heartbeat);
    case TXN_CHECK_STATUS:
        return sizeof(struct txn_check_status);
    case TXN_CHECK_SECONDARIES:
        return sizeof(struct txn_check_secondaries);
    case TXN_RESOLVE_LOCK:
        return sizeof(struct txn_resolve_lock);
    case TXN_DELETE_RANGE:
        return sizeof(struct txn_delete_range);
    case TXN_GC:
        return sizeof(struct txn_gc);
    case TXN_MVCC_BY_KEY:
    case TXN_MVCC_BY_START_TS:
        return sizeof(struct txn_mvcc);
    }
    return sizeof(struct txn_command);
}

void txn_command_init(struct txn_command *command, enum txn_command_kind kind)
{
    memset(command, 0, command_size(kind));
    command->kind = (uint8_t)kind;
}

void txn_command_deinit(struct txn_command *command)
{
    arena_deinit(&command->arena);
}
