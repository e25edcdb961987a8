/*
 * cli/client/expiry.h: when the keys of a page end, asked of the store, many at once.
 *
 * Happy path: (1) a window of questions is submitted together; (2) the last answer wakes the main
 * thread. A store that keeps no times to live says so once, and is not asked again. Main thread.
 */
#ifndef CLI_CLIENT_EXPIRY_H
#define CLI_CLIENT_EXPIRY_H

#include "cli/client/client.h"

#define EXPIRY_GONE UINT64_MAX /* the key is not there any more */

struct expiries {
    struct client *client;
    bool none; /* the store has no times to live */
    struct expiry_window *window;
    uint64_t *ends_ms; /* of the page: since 1970, 0: never */
    size_t room;
};

void expiries_init(struct expiries *expiries, struct client *client);
/* Fills ends_ms. Returns 0 or an exit status after a message. */
int expiries_read(struct expiries *expiries, uint8_t family, const kvs_pair *pairs, size_t count);
void expiries_deinit(struct expiries *expiries);

#endif
