/*
 * client/events/check.h: what every implementation of the event streams checks of its callers.
 *
 * Each returns 0, or INVALID_ARGUMENT or TOO_LARGE with a line in `why`. Options are copied as far
 * as the caller's struct goes, with defaults filled in. No state, any thread.
 */
#ifndef CLIENT_EVENTS_CHECK_H
#define CLIENT_EVENTS_CHECK_H

#include "client/events/events.h"

#define CHECK_WHY_SIZE 160

int check_call_options(const kvs_call_options *options, kvs_call_options *ret_options,
                       char why[CHECK_WHY_SIZE]);
int check_stream(kvs_slice stream, char why[CHECK_WHY_SIZE]);
int check_json_object(kvs_slice json, char why[CHECK_WHY_SIZE]);
int check_user(enum kvs_user_change change, const kvs_user *user, char why[CHECK_WHY_SIZE]);
int check_request(const struct events_request *request, char why[CHECK_WHY_SIZE]);

int check_subscribe(const struct kvs_subscribe_options *options,
                    const struct kvs_subscription_handlers *handlers,
                    struct kvs_subscribe_options *ret_options);
int check_subscribe_group(const struct kvs_group_subscribe_options *options,
                          const struct kvs_subscription_handlers *handlers,
                          struct kvs_group_subscribe_options *ret_options);

#endif
