/*
 * server/eventstore_login.c: who asks.
 *
 * 1. Credentials that are those of the connection's last login, which is not older than a second,
 *    have its outcome: clients that send them with every package cost one login a second.
 * 2. Others are asked for: the frame stays where it is, nothing more is read meanwhile; when the
 *    answer is there the connection is looked at again, and finds it by rule 1.
 *
 * Failures: no memory, or storage that cannot be read: the request fails, and is not refused.
 */
#include "server/eventstore_parts.h"

#include "base/mem.h"

#include <kvs/error.h>

#define LOGIN_LASTS_MS 1000u

struct es_login {
    struct stream_user_call call;
    struct es_connection *connection;
    struct es_user *user; /* NULL: refused, or not known yet */
    bool done;
    int error;
    uint64_t done_ms;
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
    return connection->login != NULL && !connection->login->done;
}

void es_login_forget(struct es_connection *connection)
{
    if (connection->login == NULL)
        return;
    es_user_unref(connection->login->user);
    mem_free(connection->login);
    connection->login = NULL;
}

static void on_login(struct task *task)
{
    struct es_login *login = CONTAINER_OF(task, struct es_login, call.op.task);
    struct es_connection *connection = login->connection;
    login->done = true;
    login->done_ms = loop_now_ms(connection->at->loop);
    login->error = login->call.op.error;
    if (login->error == 0 && login->call.outcome == STREAM_USER_OK) {
        login->user = user_new(&login->call.user);
        login->error = login->user == NULL ? KVS_ERR_NO_MEMORY : 0;
    }
    stream_user_call_release(&login->call);
    connection_check(&connection->base);
    connection_unref(&connection->base);
}

static int ask(struct es_connection *connection, const struct es_credentials *credentials)
{
    size_t size = credentials->login.size + credentials->password.size;
    struct es_login *login = mem_alloc(sizeof *login + size);
    if (login == NULL)
        return KVS_ERR_NO_MEMORY;
    memset(login, 0, sizeof *login);
    uint8_t *at = login->text;
    login->connection = connection;
    login->login = put(&at, credentials->login);
    login->password = put(&at, credentials->password);
    login->call.action = STREAM_USER_LOGIN;
    login->call.login = login->login;
    login->call.password = login->password;
    login->call.op.loop = connection->at->loop;
    login->call.op.task.run = on_login;
    es_login_forget(connection);
    connection->login = login;
    connection_ref(&connection->base);
    streams_user_call(connection->at->service->streams, &login->call);
    return 0;
}

/* What is known of these credentials. */
static enum es_who recall(struct es_connection *connection,
                          const struct es_credentials *credentials, struct es_user **ret_user,
                          int *ret_error)
{
    const struct es_login *login = connection->login;
    if (login == NULL || !slice_equal(login->login, credentials->login) ||
        !slice_equal(login->password, credentials->password))
        return ES_WHO_LATER;
    if (loop_now_ms(connection->at->loop) - login->done_ms > LOGIN_LASTS_MS)
        return ES_WHO_LATER;
    if (login->error != 0) {
        *ret_error = login->error;
        return ES_WHO_FAILED;
    }
    *ret_user = login->user;
    return login->user != NULL ? ES_WHO_KNOWN : ES_WHO_REFUSED;
}

enum es_who es_who_asks(struct es_connection *connection, const struct es_frame *frame,
                        struct es_user **ret_user, int *ret_error)
{
    *ret_user = NULL;
    if (connection->at->service->options.insecure)
        return ES_WHO_KNOWN;
    if (!frame->has_credentials) {
        *ret_user = connection->user;
        return connection->refused || frame->command == ES_AUTHENTICATE ? ES_WHO_REFUSED
                                                                        : ES_WHO_KNOWN;
    }
    const struct es_credentials *credentials = &frame->credentials;
    if (credentials->login.size == 0 || credentials->token.size > 0)
        return ES_WHO_REFUSED;
    enum es_who who = recall(connection, credentials, ret_user, ret_error);
    if (who != ES_WHO_LATER)
        return who;
    *ret_error = ask(connection, credentials);
    return *ret_error == 0 ? ES_WHO_LATER : ES_WHO_FAILED;
}
