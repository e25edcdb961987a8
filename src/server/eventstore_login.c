/*
 * server/eventstore_login.c: who asks.
 *
 * 1. Credentials that are those of the connection's last login have its outcome, as long as no user
 *    was changed since: clients that send them with every package cost one login.
 * 2. A frame without credentials is of the user of the last Authenticate, with the rights that he
 *    has now: when users were changed he is looked up again, without his password, so who changes
 *    his own goes on. Who is disabled is refused meanwhile, who is deleted from then on, also when
 *    there is another user of his name by now. What he has subscribed to goes on.
 * 3. Otherwise they are asked for: the frame stays where it is, nothing more is read meanwhile;
 *    when the answer is there the connection is looked at again, and finds it by the rules above.
 *
 * Failures: no memory, or storage that cannot be read: the request fails, and is not refused.
 */
#include "server/eventstore_parts.h"

#include "base/mem.h"

#include <kvs/error.h>
#include <openssl/crypto.h>

struct es_login {
    struct stream_user_call call;
    struct es_connection *connection;
    unsigned refs;
    struct es_user *user; /* NULL: refused, or not known yet */
    bool done;
    bool is_new; /* nobody has been told yet */
    int error;
    uint64_t users_version;    /* before it was asked for */
    uint64_t seen;             /* of his history: another user of his name has another one */
    kvs_slice login, password; /* of text */
    uint8_t text[];
};

/* --- users ------------------------------------------------------------------------------------ */

static kvs_slice put(uint8_t **at, kvs_slice text)
{
    kvs_slice copy = slice_make(*at, text.size);
    if (text.size > 0)
        memcpy(*at, text.data, text.size);
    *at += text.size;
    return copy;
}

/* A copy; NULL: no memory. */
static struct es_user *user_new(const struct stream_user *from)
{
    size_t size =
        sizeof(struct es_user) + from->groups_count * sizeof(kvs_slice) + from->login.size;
    for (uint32_t i = 0; i < from->groups_count; i++)
        size += from->groups[i].size;
    struct es_user *user = mem_alloc(size);
    if (user == NULL)
        return NULL;
    kvs_slice *groups = (kvs_slice *)(user + 1);
    uint8_t *at = (uint8_t *)(groups + from->groups_count);
    user->refs = 1;
    user->user = (struct stream_user){
        .login = put(&at, from->login), .groups = groups, .groups_count = from->groups_count};
    for (uint32_t i = 0; i < from->groups_count; i++)
        groups[i] = put(&at, from->groups[i]);
    return user;
}

void es_user_unref(struct es_user *user)
{
    if (user != NULL && --user->refs == 0)
        mem_free(user);
}

/* --- logins ----------------------------------------------------------------------------------- */

bool es_login_is_pending(const struct es_connection *connection)
{
    return (connection->login != NULL && !connection->login->done) ||
           (connection->own != NULL && !connection->own->done);
}

static void login_unref(struct es_login *login)
{
    if (login == NULL || --login->refs > 0)
        return;
    es_user_unref(login->user);
    OPENSSL_cleanse(login->text, login->login.size + login->password.size);
    mem_free(login);
}

void es_login_own(struct es_connection *connection)
{
    struct es_login *login = connection->login; /* NULL: nobody is asked */
    if (login != NULL)
        login->refs++;
    login_unref(connection->own);
    connection->own = login;
}

void es_logins_forget(struct es_connection *connection)
{
    login_unref(connection->login);
    login_unref(connection->own);
    connection->login = connection->own = NULL;
}

/* Of a login or of details; false: refused. */
static bool user_of_call(const struct stream_user_call *call, struct stream_user *ret_user)
{
    if (call->outcome != STREAM_USER_OK)
        return false;
    *ret_user = call->user;
    if (call->action == STREAM_USER_LOGIN)
        return true;
    const struct stream_user_details *details = call->details;
    *ret_user = (struct stream_user){
        .login = call->login, .groups = details->groups, .groups_count = details->groups_count};
    return !details->disabled;
}

static void on_login(struct task *task)
{
    struct es_login *login = CONTAINER_OF(task, struct es_login, call.op.task);
    struct es_connection *connection = login->connection;
    struct stream_user user;
    es_user_unref(login->user);
    login->user = NULL;
    login->done = true;
    login->is_new = true;
    login->error = login->call.op.error;
    if (login->call.seen > 0)
        login->seen = login->call.seen;
    if (login->error == 0 && user_of_call(&login->call, &user)) {
        login->user = user_new(&user);
        login->error = login->user == NULL ? KVS_ERR_NO_MEMORY : 0;
    }
    /* Another user of this name is not he. */
    if (login->error == 0 && login->call.outcome == STREAM_USER_NOT_FOUND)
        connection->refused = true;
    stream_user_call_release(&login->call);
    connection_check(&connection->base);
    connection_unref(&connection->base);
}

/* Details are asked for of who has shown his password before. */
static void login_start(struct es_connection *connection, struct es_login *login,
                        enum stream_user_action action)
{
    struct streams *streams = connection->at->service->streams;
    login->done = false;
    login->users_version = streams_users_version(streams);
    login->call = (struct stream_user_call){
        .op = {.task.run = on_login, .loop = connection->at->loop},
        .action = action,
        .login = login->login,
        .password = login->password,
        .seen_before = login->seen,
    };
    connection_ref(&connection->base);
    streams_user_call(streams, &login->call);
}

static int ask(struct es_connection *connection, const struct es_credentials *credentials)
{
    size_t size = credentials->login.size + credentials->password.size;
    struct es_login *login = mem_zalloc(sizeof *login + size);
    if (login == NULL)
        return KVS_ERR_NO_MEMORY;
    uint8_t *at = login->text;
    login->refs = 1;
    login->connection = connection;
    login->login = put(&at, credentials->login);
    login->password = put(&at, credentials->password);
    login_unref(connection->login);
    connection->login = login;
    login_start(connection, login, STREAM_USER_LOGIN);
    return 0;
}

/* What is known of this login. */
static enum es_who recall(struct es_connection *connection, struct es_login *login,
                          struct es_user **ret_user, int *ret_error)
{
    uint64_t version = streams_users_version(connection->at->service->streams);
    bool holds = login->is_new || (login->error == 0 && login->users_version == version);
    login->is_new = false; /* the frame that it was asked for is answered by it in any case */
    if (!holds)
        return ES_WHO_LATER;
    if (login->error != 0) {
        *ret_error = login->error;
        return ES_WHO_FAILED;
    }
    *ret_user = login->user;
    return login->user != NULL ? ES_WHO_KNOWN : ES_WHO_REFUSED;
}

static bool login_is_of(const struct es_login *login, const struct es_credentials *credentials)
{
    return login != NULL && slice_equal(login->login, credentials->login) &&
           slice_equal(login->password, credentials->password);
}

/* A frame without credentials is that of who has authenticated the connection, as long as he is
 * there. */
static enum es_who own_asks(struct es_connection *connection, struct es_user **ret_user,
                            int *ret_error)
{
    if (connection->own == NULL)
        return ES_WHO_KNOWN;
    enum es_who who = recall(connection, connection->own, ret_user, ret_error);
    if (who != ES_WHO_LATER)
        return who;
    if (connection->login == connection->own) { /* what comes now says nothing of the password */
        login_unref(connection->login);
        connection->login = NULL;
    }
    login_start(connection, connection->own, STREAM_USER_DETAILS);
    return ES_WHO_LATER;
}

enum es_who es_who_asks(struct es_connection *connection, const struct es_frame *frame,
                        struct es_user **ret_user, int *ret_error)
{
    *ret_user = NULL;
    if (connection->at->service->options.insecure)
        return ES_WHO_KNOWN;
    if (!frame->has_credentials)
        return connection->refused || frame->command == ES_AUTHENTICATE
                   ? ES_WHO_REFUSED
                   : own_asks(connection, ret_user, ret_error);
    const struct es_credentials *credentials = &frame->credentials;
    if (credentials->login.size == 0 || credentials->token.size > 0)
        return ES_WHO_REFUSED;
    if (login_is_of(connection->login, credentials)) {
        enum es_who who = recall(connection, connection->login, ret_user, ret_error);
        if (who != ES_WHO_LATER)
            return who;
    }
    *ret_error = ask(connection, credentials);
    return *ret_error == 0 ? ES_WHO_LATER : ES_WHO_FAILED;
}
