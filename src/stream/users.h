/*
 * stream/users.h: users of the event streams: who may log in, with which password, in which groups.
 *
 * A user is a stream, $user-LOGIN, whose last event tells all but the password, of which it has
 * salt and hash (PBKDF2 with HMAC-SHA1, 1000 rounds, as clients of this protocol's servers know
 * them). The first open makes admin and ops with the password "changeit".
 *
 * Hashing takes about a millisecond: it is done on the blocking pool. Logins that were found right
 * are remembered, so that a password with each packet costs little.
 */
#ifndef STREAM_USERS_H
#define STREAM_USERS_H

#include "stream/stream.h"

#define STREAM_LOGIN_SIZE_MAX 256u
#define STREAM_PASSWORD_SIZE_MAX 512u
#define STREAM_DEFAULT_PASSWORD "changeit"

enum stream_user_action {
    STREAM_USER_LOGIN = 0, /* login, password: gives `user` */
    STREAM_USER_CREATE,    /* login, full_name, groups, password */
    STREAM_USER_UPDATE,    /* login, full_name, groups */
    STREAM_USER_DELETE,
    STREAM_USER_ENABLE,
    STREAM_USER_DISABLE,
    STREAM_USER_RESET_PASSWORD,  /* login, new_password */
    STREAM_USER_CHANGE_PASSWORD, /* login, password, new_password */
    STREAM_USER_DETAILS,         /* of one, or with an empty login of all: gives `details` */
};

enum stream_user_outcome {
    STREAM_USER_OK = 0,
    STREAM_USER_WRONG, /* login or password, or disabled */
    STREAM_USER_NOT_FOUND,
    STREAM_USER_EXISTS,
    STREAM_USER_ACCESS_DENIED,
    STREAM_USER_BAD_REQUEST,
};

struct stream_user_details {
    kvs_slice login;
    kvs_slice full_name;
    const kvs_slice *groups;
    uint32_t groups_count;
    bool disabled;
    int64_t updated_100ns; /* since 1970 */
};

struct stream_user_call {
    struct op op;

    /* the request */
    enum stream_user_action action;
    kvs_slice login;
    kvs_slice password;
    kvs_slice new_password;
    kvs_slice full_name;
    const kvs_slice *groups;
    uint32_t groups_count;
    uint64_t seen_before; /* details of one: `seen` of an earlier call; 0: of none. NOT_FOUND, when
                             he was deleted since and another one has his name */
    const struct stream_user *by; /* who asks: an admin, or for details and change password the
                                     user; NULL: nobody checks */

    /* the result; it lives until stream_user_call_release */
    enum stream_user_outcome outcome;
    struct stream_user user;
    bool default_password; /* login: it is still the one that everybody knows */
    struct stream_user_details *details;
    uint32_t details_count;
    uint64_t seen; /* login, details of one: how far his history was looked at */

    /* the streams' own */
    struct arena arena;
    struct streams *streams;
    struct engine_read engine_read;
    struct stream_write write;
    void *state[8];
};

void streams_user_call(struct streams *streams, struct stream_user_call *call);
void stream_user_call_release(struct stream_user_call *call);

/* Another number after each change of a user that was acknowledged: what a login gave holds as long
 * as the number is that from before it. Any thread. */
uint64_t streams_users_version(struct streams *streams);

/* Who still has the password that everybody knows: "admin", "ops", "admin and ops", or NULL.
 * Blocking. */
const char *streams_default_password_blocking(struct streams *streams);

#endif
