/*
 * server/eventstore_subscriptions.c: persistent subscription groups over HTTP: what the TCP
 * protocol has no command for.
 *
 *   GET  /subscriptions                      all groups, in short
 *   GET  /subscriptions/STREAM               those of a stream; 404 when it has none
 *   GET  /subscriptions/STREAM/GROUP/info    one, in full
 *   POST /subscriptions/STREAM/GROUP/replayParked[?stopAt=COUNT]
 *                                            parked events are given again; by an operator
 *
 * 1. STREAM and GROUP are taken out of the path, login and password out of the request;
 * 2. who has a login is looked up; who has none asks as nobody, who may nothing of this;
 * 3. the groups are asked, and the outcome answered: 200, 401 (who asks may not, or is not who he
 *    says he is), 404 (no such group), 405, 400, 500.
 */
#include "server/eventstore_http.h"

#include "base/mem.h"
#include "server/http_request.h"
#include "stream/users.h"

#include <kvs/error.h>
#include <openssl/crypto.h>
#include <stdio.h>

#define ANSWER_SIZE_MAX (64u * 1024 * 1024)

struct asking {
    struct stream_user_call login; /* its user asks */
    struct stream_group_call group;
    struct grpc_connection *connection;
    struct es_service *service;
    size_t size;    /* of text */
    uint8_t text[]; /* what is decoded: of the path, and the credentials */
};

/* --- the request ------------------------------------------------------------------------------ */

/* What the path asks for. NULL: nothing that there is. */
static const char *take_path(struct asking *asking, kvs_slice path, uint8_t **at)
{
    struct stream_group_call *group = &asking->group;
    size_t size = strlen("/subscriptions"); /* which the route has compared */
    group->action = STREAM_GROUP_INFO;
    if (path.size == size)
        return "GET, HEAD";
    path = slice_make(path.data + size + 1, path.size - size - 1);
    if (!http_take_part(&path, at, &group->stream))
        return NULL;
    if (path.size == 0)
        return "GET, HEAD";
    if (!http_take_part(&path, at, &group->group))
        return NULL;
    if (slice_equal(path, slice_of_string("info")))
        return "GET, HEAD";
    group->action = STREAM_GROUP_REPLAY;
    return slice_equal(path, slice_of_string("replayParked")) ? "POST" : NULL;
}

static bool take_credentials(struct asking *asking, kvs_slice authorization, uint8_t *at)
{
    struct stream_user_call *call = &asking->login;
    return http_basic_credentials(authorization, at, &call->login, &call->password) &&
           call->login.size > 0 && call->login.size <= STREAM_LOGIN_SIZE_MAX &&
           call->password.size <= STREAM_PASSWORD_SIZE_MAX;
}

/* --- the answer ------------------------------------------------------------------------------- */

static void asking_free(struct asking *asking)
{
    if (asking->login.op.task.run != NULL)
        stream_user_call_release(&asking->login);
    stream_group_call_release(&asking->group);
    OPENSSL_cleanse(asking->text, asking->size);
    mem_free(asking);
}

static void asking_end(struct asking *asking, int status, const char *reason)
{
    char body[256];
    snprintf(body, sizeof body, "{\"result\":\"%s\",\"reason\":\"%s\"}\n",
             status == 200 ? "Success" : "Failure", reason);
    http_reply(asking->connection, status, slice_of_string(body));
    asking_free(asking);
}

static int append_infos(struct asking *asking, struct buf *body)
{
    char base[EVENTSTORE_HTTP_BASE_SIZE];
    const struct stream_group_call *group = &asking->group;
    const struct connection *connection = http_connection_of(asking->connection);
    eventstore_http_base(asking->service, connection, base);
    int error = group->group.size > 0
                    ? group_info_append(body, base, group->infos)
                    : group_summaries_append(body, base, group->infos, group->infos_count);
    return error != 0 ? error : buf_printf(body, "\n");
}

static void answer_infos(struct asking *asking)
{
    const struct stream_group_call *group = &asking->group;
    struct buf body = BUF_INIT;
    int error = append_infos(asking, &body);
    if (error == 0 && body.size > ANSWER_SIZE_MAX) {
        asking_end(asking, 500, "there are too many groups for one answer: ask for a stream's");
    } else if (error != 0) {
        asking_end(asking, 500, kvs_error_text(error));
    } else {
        bool none = group->stream.size > 0 && group->infos_count == 0;
        http_reply(asking->connection, none ? 404 : 200, buf_slice(&body));
        asking_free(asking);
    }
    buf_deinit(&body);
}

static void on_groups(struct task *task)
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
    struct asking *asking = CONTAINER_OF(task, struct asking, group.op.task);
    const struct stream_group_call *group = &asking->group;
    bool informs = group->action == STREAM_GROUP_INFO;
    if (group->op.error != 0)
        asking_end(asking, 500, kvs_error_text(group->op.error));
    else if (informs && group->outcome == STREAM_GROUP_OK)
        answer_infos(asking);
    else if (informs && group->outcome == STREAM_GROUP_ACCESS_DENIED)
        asking_end(asking, 401, "this needs a login");
    else
        asking_end(asking, statuses[group->outcome], reasons[group->outcome]);
}

static void ask_groups(struct asking *asking, const struct stream_user *user)
{
    asking->group.user = user;
    asking->group.op.loop = http_port_of(asking->connection)->loop;
    asking->group.op.task.run = on_groups;
    streams_group_call(asking->service->streams, &asking->group);
}

static void on_login(struct task *task)
{
    struct asking *asking = CONTAINER_OF(task, struct asking, login.op.task);
    struct stream_user_call *login = &asking->login;
    if (login->op.error != 0)
        asking_end(asking, 500, kvs_error_text(login->op.error));
    else if (login->outcome == STREAM_USER_OK)
        ask_groups(asking, &login->user);
    else
        asking_end(asking, 401, "wrong login or password");
}

static void ask_login(struct asking *asking)
{
    asking->login.action = STREAM_USER_LOGIN;
    asking->login.op.loop = http_port_of(asking->connection)->loop;
    asking->login.op.task.run = on_login;
    streams_user_call(asking->service->streams, &asking->login);
}

static void ask(struct asking *asking, const struct http_request *request, uint8_t *text)
{
    static const struct stream_user nobody;
    if (!http_query_number(request->query, "stopAt", &asking->group.stop_at))
        asking_end(asking, 400, "stopAt is a number of events");
    else if (asking->service->options.insecure)
        ask_groups(asking, NULL);
    else if (request->authorization.size == 0)
        ask_groups(asking, &nobody);
    else if (!take_credentials(asking, request->authorization, text))
        asking_end(asking, 401, "wrong login or password");
    else
        ask_login(asking);
}

void eventstore_take_subscriptions(struct grpc_connection *connection,
                                   const struct http_request *request)
{
    const struct es_service_loop *at = http_port_of(connection)->state;
    size_t size = request->path.size + request->authorization.size;
    struct asking *asking = mem_zalloc(sizeof *asking + size);
    if (asking == NULL) {
        http_reply(connection, 503, slice_make(NULL, 0));
        return;
    }
    asking->connection = connection;
    asking->service = at->service;
    asking->size = size;
    uint8_t *text = asking->text;
    const char *methods = take_path(asking, request->path, &text);
    bool posts = slice_equal(request->method, slice_of_string("POST"));
    if (methods == NULL) {
        asking_end(asking, 404,
                   "there are STREAM, STREAM/GROUP/info and STREAM/GROUP/replayParked");
    } else if (posts != (strcmp(methods, "POST") == 0)) {
        http_reply_other(connection, methods);
        asking_free(asking);
    } else {
        ask(asking, request, text);
    }
}
