/* client/open.h: what opening a store and opening a client of transactions have in common. */
#ifndef CLIENT_OPEN_H
#define CLIENT_OPEN_H

#include "client/txn/local.h"
#include "client/url.h"

#include <kvs/store.h>

#define OPEN_MESSAGE_SIZE 320u

/* Takes the options (may be NULL) with their defaults, and the URL. Returns 0, or INVALID_ARGUMENT
 * with a line for a person. */
int open_check(const char *text, const struct kvs_store_options *given, struct url *ret_url,
               struct kvs_store_options *ret_options, char message[OPEN_MESSAGE_SIZE]);

/* Opens the engine of a log:, rocksdb: or memory: URL. */
int open_local_blocking(kvs_runtime *runtime, const struct url *url,
                        const struct kvs_store_options *options, struct local_engine **ret_local,
                        char message[OPEN_MESSAGE_SIZE]);

#endif
