/*
 * server/eventstore_replay.c: parked events are given again, which the TCP protocol has no command
 * for: POST /subscriptions/STREAM/GROUP/replayParked[?stopAt=COUNT], by an operator.
 *
 * 1. STREAM and GROUP are taken out of the path, login and password out of the request;
 * 2. who has a login is looked up; who has none asks as nobody;
 * 3. the group is told, and the outcome answered: 200, 401 (who asks may not, or is not who he says
 *    he is), 404 (no such group), 400, 500.
 */
#include "server/eventstore_http.h"

#include "base/mem.h"
#include "server/eventstore_service.h"
#include "server/http_request.h"
#include "stream/group.h"
#include "stream/users.h"

#include <kvs/error.h>
#include <openssl/crypto.h>
#include <stdio.h>

struct replay {
    struct stream_user_call login; /* its user asks */
    struct stream_group_call group;
    struct grpc_connection *connection;
    struct streams *streams;
    size_t size;    /* of text */
    uint8_t text[]; /* what is decoded: of the path, and the credentials */
};

/* --- the request ------------------------------------------------------------------------------ */

static bool take_path(struct replay *replay, kvs_slice path, uint8_t **at)
{
    static const char prefix[] = "/subscriptions/";
    size_t size = sizeof prefix - 1; /* which the route has compared */
    path = slice_make(path.data + size, path.size - size);
    return http_take_part(&path, at, &replay->group.stream) &&
           http_take_part(&path, at, &replay->group.group) &&
           slice_equal(path, slice_of_string("replayParked"));
}

static bool take_credentials(struct replay *replay, kvs_slice authorization, uint8_t *at)
{
    struct stream_user_call *call = &replay->login;
    return http_basic_credentials(authorization, at, &call->login, &call->password) &&
           call->login.size > 0 && call->login.size <= STREAM_LOGIN_SIZE_MAX &&
           call->password.size <= STREAM_PASSWORD_SIZE_MAX;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void replay_end(struct replay *replay, int status, const char *reason)
{
    char body[256];
    snprintf(body, sizeof body, "{\"result\":\"%s\",\"reason\":\"%s\"}\n",
             status == 200 ? "Success" : "Failure", reason);
    http_reply(replay->connection, status, slice_of_string(body));
    OPENSSL_cleanse(replay->text, replay->size);
    mem_free(replay);
}

static void replay_on_done(struct task *task)
{
    static const int statuses[] = {
        [STREAM_GROUP_OK] = 200,
        [STREAM_GROUP_EXISTS] = 500,
        [STREAM_GROUP_NOT_FOUND] = 404,
        [STREAM_GROUP_FAILED] = 400,
        [STREAM_GROUP_ACCESS_DENIED] = 401,
    };
    static const char *const reasons[] = {
        [STREAM_GROUP_OK] = "",
        [STREAM_GROUP_EXISTS] = "",
        [STREAM_GROUP_NOT_FOUND] = "there is no such group",
        [STREAM_GROUP_FAILED] = "the group cannot do this",
        [STREAM_GROUP_ACCESS_DENIED] = "only operators may do this",
    };
    struct replay *replay = CONTAINER_OF(task, struct replay, group.op.task);
    int error = replay->group.op.error;
    int status = error != 0 ? 500 : statuses[replay->group.outcome];
    const char *reason = error != 0 ? kvs_error_text(error) : reasons[replay->group.outcome];
    stream_group_call_release(&replay->group);
    if (replay->login.op.task.run != NULL)
        stream_user_call_release(&replay->login);
    replay_end(replay, status, reason);
}

static void ask_group(struct replay *replay, const struct stream_user *user)
{
    replay->group.action = STREAM_GROUP_REPLAY;
    replay->group.user = user;
    replay->group.op.loop = http_port_of(replay->connection)->loop;
    replay->group.op.task.run = replay_on_done;
    streams_group_call(replay->streams, &replay->group);
}

static void replay_on_login(struct task *task)
{
    struct replay *replay = CONTAINER_OF(task, struct replay, login.op.task);
    struct stream_user_call *login = &replay->login;
    int error = login->op.error;
    if (error == 0 && login->outcome == STREAM_USER_OK) {
        ask_group(replay, &login->user);
        return;
    }
    stream_user_call_release(login);
    if (error != 0)
        replay_end(replay, 500, kvs_error_text(error));
    else
        replay_end(replay, 401, "wrong login or password");
}

static void ask_login(struct replay *replay)
{
    replay->login.action = STREAM_USER_LOGIN;
    replay->login.op.loop = http_port_of(replay->connection)->loop;
    replay->login.op.task.run = replay_on_login;
    streams_user_call(replay->streams, &replay->login);
}

void eventstore_take_subscriptions(struct grpc_connection *connection,
                                   const struct http_request *request)
{
    static const struct stream_user nobody;
    const struct es_service_loop *at = http_port_of(connection)->state;
    size_t size = request->path.size + request->authorization.size;
    struct replay *replay = mem_zalloc(sizeof *replay + size);
    if (replay == NULL) {
        http_reply(connection, 503, slice_make(NULL, 0));
        return;
    }
    replay->connection = connection;
    replay->streams = at->service->streams;
    replay->size = size;
    uint8_t *text = replay->text;
    if (!take_path(replay, request->path, &text))
        replay_end(replay, 404, "there is only STREAM/GROUP/replayParked");
    else if (!http_query_number(request->query, "stopAt", &replay->group.stop_at))
        replay_end(replay, 400, "stopAt is a number of events");
    else if (at->service->options.insecure)
        ask_group(replay, NULL);
    else if (request->authorization.size == 0)
        ask_group(replay, &nobody);
    else if (!take_credentials(replay, request->authorization, text))
        replay_end(replay, 401, "wrong login or password");
    else
        ask_login(replay);
}
