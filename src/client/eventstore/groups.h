/*
 * client/eventstore/groups.h: what a server tells by HTTP of persistent subscription groups.
 *
 * Members are those of EventStoreDB's answers, old and new; what is missing counts as zero or
 * empty. Results are in the arena. No state, any thread.
 */
#ifndef CLIENT_EVENTSTORE_GROUPS_H
#define CLIENT_EVENTSTORE_GROUPS_H

#include "base/arena.h"

#include <kvs/events.h>

/* 0, PROTOCOL (it is no such list) or NO_MEMORY. */
int groups_parse_list(kvs_slice json, struct arena *arena, kvs_group_list **ret_list);
int groups_parse_info(kvs_slice json, struct arena *arena, kvs_group_info **ret_info);

#endif
