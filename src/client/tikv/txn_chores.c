/* client/tikv/txn_chores.c: see client/tikv/txn_chores.h. */
#include "client/tikv/txn_chores.h"

#include "base/mem.h"
#include "client/tikv/cluster_parts.h"
#include "kvrpcpb.pb-c.h"
#include "pdpb.pb-c.h"
#include "proto/tikv/key.h"

#include <kvs/error.h>
#include <stdio.h>

#define GC_WORKER_ID "gc_worker"
/* Others that collect garbage, too, may move the safe points between a question and the next. */
#define GC_ATTEMPTS_MAX 4u

/* In txn_chore.extra, until the chore is over. */
struct chore_question {
    struct pd_request request;
    struct list node; /* of tikv_chores.questions */
    struct tikv_chores *chores;
    struct txn_chore *chore;
    uint64_t due_ms;
    /* of garbage collection */
    uint32_t scope; /* a keyspace that collects by itself, or KEYSPACE_NONE */
    bool is_old;    /* PD does not know the state of GC */
    bool is_ending;
    uint8_t attempts;
    char refused[TXN_WHY_SIZE]; /* PD's words */
};

static_assert(sizeof(struct chore_question) <= sizeof((struct txn_chore *)0)->extra,
              "no allocation for a question");

typedef void question_fn(struct pd_request *request, int error, kvs_slice reply, const char *why);

static struct chore_question *question_of(struct txn_chore *chore)
{
    return (struct chore_question *)(void *)chore->extra;
}

static struct chore_question *question_new(struct tikv_chores *chores, struct txn_chore *chore)
{
    struct chore_question *question = question_of(chore);
    *question = (struct chore_question){.chores = chores, .chore = chore, .scope = KEYSPACE_NONE};
    list_init(&question->node);
    return question;
}

static void question_finish(struct chore_question *question, int error, const char *why)
{
    struct txn_chore *chore = question->chore;
    if (why != chore->why)
        snprintf(chore->why, sizeof chore->why, "%.159s", error != 0 ? why : "");
    chore->done(chore, error, chore->why);
}

static void ask_pd(struct chore_question *question, const char *path,
                   const ProtobufCMessage *message, question_fn *done)
{
    struct tikv_chores *chores = question->chores;
    if (question->chore->cancelled) {
        question_finish(question, KVS_ERR_CANCELLED, "cancelled");
        return;
    }
    question->request = (struct pd_request){.path = slice_of_string(path), .done = done};
    int error = pack_message(&question->request.body, message);
    if (error != 0) {
        pd_request_deinit(&question->request);
        question_finish(question, error, "no memory for a question to PD");
        return;
    }
    question->due_ms = loop_now_ms(chores->cluster->loop) + chores->timeout_ms;
    list_append(&chores->questions, &question->node);
    pd_request_send(&chores->cluster->pd, &question->request);
}

static Pdpb__RequestHeader header_of(const struct chore_question *question)
{
    Pdpb__RequestHeader header = PDPB__REQUEST_HEADER__INIT;
    header.cluster_id = question->chores->cluster->pd.members.cluster_id;
    return header;
}

/* The answer is there. */
static struct chore_question *question_take(struct pd_request *request)
{
    struct chore_question *question = CONTAINER_OF(request, struct chore_question, request);
    list_remove(&question->node);
    return question;
}

/* Has PD refused? Keeps its words. */
static bool is_refused(struct chore_question *question, const Pdpb__ResponseHeader *header)
{
    if (header == NULL || header->error == NULL)
        return false;
    const char *words = header->error->message;
    snprintf(question->refused, sizeof question->refused, "PD refuses: %.140s",
             words != NULL && words[0] != '\0' ? words : "it does not say why");
    return true;
}

/* Takes what concerns nobody but the transport: the memory of the answer, and what it is worth. */
static void question_failed(struct chore_question *question, int error, const char *why)
{
    char text[TXN_WHY_SIZE];
    snprintf(text, sizeof text, "%s", why);
    pd_request_deinit(&question->request);
    question_finish(question, error, text);
}

#define UNREADABLE "PD sent what cannot be read"

/* --- the state of GC ----------------------------------------------------------------------------
 */

static void ask_service(struct chore_question *question);
static void ask_advance_txn(struct chore_question *question);
static void ask_update(struct chore_question *question);

static void gc_begun(struct chore_question *question, uint64_t safe_point)
{
    struct txn_chore *chore = question->chore;
    if (safe_point < chore->safe_point)
        chore->safe_point = safe_point; /* somebody holds it back */
    pd_safe_point_raise(question->chores->safe_point, chore->safe_point);
    question_finish(question, 0, "");
}

static void gc_ended(struct chore_question *question, uint64_t safe_point)
{
    question->chore->safe_point = safe_point;
    question_finish(question, 0, "");
}

static void on_state(struct chore_question *question, const Pdpb__GCState *state)
{
    const struct tikv_cluster *cluster = question->chores->cluster;
    uint64_t txn_safe_point = state->txn_safe_point;
    uint64_t gc_safe_point = state->gc_safe_point;
    uint64_t target = question->chore->safe_point;
    question->scope =
        cluster->is_v2 && state->is_keyspace_level_gc ? cluster->keyspace_id : KEYSPACE_NONE;
    pd_request_deinit(&question->request);
    if (question->is_ending && gc_safe_point >= target)
        gc_ended(question, gc_safe_point);
    else if (!question->is_ending && txn_safe_point >= target)
        gc_begun(question, target);
    else if (question->is_ending || question->attempts++ == GC_ATTEMPTS_MAX)
        question_finish(question, KVS_ERR_IO, question->refused);
    else
        ask_advance_txn(question);
}

static void state_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct chore_question *question = question_take(request);
    if (error == KVS_ERR_UNSUPPORTED) {
        question->is_old = true;
        pd_request_deinit(request);
        if (question->is_ending)
            ask_update(question);
        else
            ask_service(question);
        return;
    }
    if (error != 0) {
        question_failed(question, error, why);
        return;
    }
    Pdpb__GetGCStateResponse *response =
        pdpb__get_gcstate_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL)
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
    else if (is_refused(question, response->header))
        question_failed(question, KVS_ERR_IO, question->refused);
    else if (response->gc_state == NULL)
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
    else
        on_state(question, response->gc_state);
    if (response != NULL)
        pdpb__get_gcstate_response__free_unpacked(response, NULL);
}

static void ask_state(struct chore_question *question)
{
    const struct tikv_cluster *cluster = question->chores->cluster;
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__KeyspaceScope scope = PDPB__KEYSPACE_SCOPE__INIT;
    Pdpb__GetGCStateRequest message = PDPB__GET_GCSTATE_REQUEST__INIT;
    scope.keyspace_case = PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    scope.keyspace_id = cluster->is_v2 ? cluster->keyspace_id : KEYSPACE_NONE;
    message.header = &header;
    message.keyspace_scope = &scope;
    message.exclude_gc_barriers = true;
    ask_pd(question, "/pdpb.PD/GetGCState", &message.base, state_on_done);
}

/* --- the transaction safe point -----------------------------------------------------------------
 */

static void advance_txn_on_done(struct pd_request *request, int error, kvs_slice reply,
                                const char *why)
{
    struct chore_question *question = question_take(request);
    if (error != 0) {
        question_failed(question, error, why);
        return;
    }
    Pdpb__AdvanceTxnSafePointResponse *response =
        pdpb__advance_txn_safe_point_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL) {
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
        return;
    }
    bool refused = is_refused(question, response->header);
    uint64_t safe_point = response->new_txn_safe_point;
    pdpb__advance_txn_safe_point_response__free_unpacked(response, NULL);
    pd_request_deinit(request);
    if (refused)
        ask_state(question); /* another one's may be higher by now */
    else
        gc_begun(question, safe_point);
}

static void ask_advance_txn(struct chore_question *question)
{
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__KeyspaceScope scope = PDPB__KEYSPACE_SCOPE__INIT;
    Pdpb__AdvanceTxnSafePointRequest message = PDPB__ADVANCE_TXN_SAFE_POINT_REQUEST__INIT;
    scope.keyspace_case = PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    scope.keyspace_id = question->scope;
    message.header = &header;
    message.keyspace_scope = &scope;
    message.target = question->chore->safe_point;
    ask_pd(question, "/pdpb.PD/AdvanceTxnSafePoint", &message.base, advance_txn_on_done);
}

static void service_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct chore_question *question = question_take(request);
    if (error == KVS_ERR_UNSUPPORTED) { /* nobody can hold it back there */
        pd_request_deinit(request);
        gc_begun(question, question->chore->safe_point);
        return;
    }
    if (error != 0) {
        question_failed(question, error, why);
        return;
    }
    Pdpb__UpdateServiceGCSafePointResponse *response =
        pdpb__update_service_gcsafe_point_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL) {
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
        return;
    }
    bool refused = is_refused(question, response->header);
    uint64_t lowest = response->min_safe_point;
    pdpb__update_service_gcsafe_point_response__free_unpacked(response, NULL);
    if (refused) {
        question_failed(question, KVS_ERR_IO, question->refused);
        return;
    }
    pd_request_deinit(request);
    gc_begun(question, lowest);
}

static void ask_service(struct chore_question *question)
{
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__UpdateServiceGCSafePointRequest message = PDPB__UPDATE_SERVICE_GCSAFE_POINT_REQUEST__INIT;
    uint8_t id[] = GC_WORKER_ID;
    message.header = &header;
    message.service_id = (ProtobufCBinaryData){.len = sizeof id - 1, .data = id};
    message.ttl = INT64_MAX; /* it holds until the next one */
    message.safe_point = question->chore->safe_point;
    ask_pd(question, "/pdpb.PD/UpdateServiceGCSafePoint", &message.base, service_on_done);
}

void tikv_chores_gc_begin(struct tikv_chores *chores, struct txn_chore *chore)
{
    ask_state(question_new(chores, chore));
}

/* --- the GC safe point --------------------------------------------------------------------------
 */

static void advance_gc_on_done(struct pd_request *request, int error, kvs_slice reply,
                               const char *why)
{
    struct chore_question *question = question_take(request);
    if (error != 0) {
        question_failed(question, error, why);
        return;
    }
    Pdpb__AdvanceGCSafePointResponse *response =
        pdpb__advance_gcsafe_point_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL) {
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
        return;
    }
    bool refused = is_refused(question, response->header);
    uint64_t safe_point = response->new_gc_safe_point;
    pdpb__advance_gcsafe_point_response__free_unpacked(response, NULL);
    pd_request_deinit(request);
    if (refused)
        ask_state(question); /* another one's may be higher already */
    else
        gc_ended(question, safe_point);
}

static void ask_advance_gc(struct chore_question *question)
{
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__KeyspaceScope scope = PDPB__KEYSPACE_SCOPE__INIT;
    Pdpb__AdvanceGCSafePointRequest message = PDPB__ADVANCE_GCSAFE_POINT_REQUEST__INIT;
    scope.keyspace_case = PDPB__KEYSPACE_SCOPE__KEYSPACE_KEYSPACE_ID;
    scope.keyspace_id = question->scope;
    message.header = &header;
    message.keyspace_scope = &scope;
    message.target = question->chore->safe_point;
    ask_pd(question, "/pdpb.PD/AdvanceGCSafePoint", &message.base, advance_gc_on_done);
}

static void update_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct chore_question *question = question_take(request);
    if (error != 0) {
        question_failed(question, error, why);
        return;
    }
    Pdpb__UpdateGCSafePointResponse *response =
        pdpb__update_gcsafe_point_response__unpack(NULL, reply.size, reply.data);
    if (response == NULL) {
        question_failed(question, KVS_ERR_PROTOCOL, UNREADABLE);
        return;
    }
    bool refused = is_refused(question, response->header);
    uint64_t safe_point = response->new_safe_point;
    pdpb__update_gcsafe_point_response__free_unpacked(response, NULL);
    if (refused) {
        question_failed(question, KVS_ERR_IO, question->refused);
        return;
    }
    pd_request_deinit(request);
    pd_safe_point_raise(question->chores->safe_point, safe_point);
    gc_ended(question, safe_point);
}

static void ask_update(struct chore_question *question)
{
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__UpdateGCSafePointRequest message = PDPB__UPDATE_GCSAFE_POINT_REQUEST__INIT;
    message.header = &header;
    message.safe_point = question->chore->safe_point;
    ask_pd(question, "/pdpb.PD/UpdateGCSafePoint", &message.base, update_on_done);
}

void tikv_chores_gc_end(struct tikv_chores *chores, struct txn_chore *chore)
{
    struct chore_question *question = question_of(chore);
    (void)chores;
    question->is_ending = true;
    if (question->is_old)
        ask_update(question);
    else
        ask_advance_gc(question);
}

/* --- destroying a range -------------------------------------------------------------------------
 */

/* One store that is to destroy the range. */
struct destroy_part {
    struct cluster_call base;
    struct txn_chore *chore;
    char message[MESSAGE_SIZE];
};

static void destroy_end(struct destroy_part *part, int error, const char *why)
{
    struct txn_chore *chore = part->chore;
    if (error != 0 && chore->error == 0) {
        chore->error = error;
        snprintf(chore->why, sizeof chore->why, "%s", why);
    }
    mem_free(part);
    if (--chore->pending == 0)
        chore->done(chore, chore->error, chore->why);
}

static int destroy_write(struct cluster_call *base, const struct call_place *place,
                         struct buf *message, bool as_command)
{
    const struct destroy_part *part = CONTAINER_OF(base, struct destroy_part, base);
    const struct tikv_cluster *cluster = base->cluster;
    Kvrpcpb__Context context = KVRPCPB__CONTEXT__INIT;
    Kvrpcpb__UnsafeDestroyRangeRequest request = KVRPCPB__UNSAFE_DESTROY_RANGE_REQUEST__INIT;
    kvs_slice prefix = tikv_cluster_prefix(cluster);
    kvs_slice bounds[2] = {part->chore->start, part->chore->end};
    struct buf full[2] = {BUF_INIT, BUF_INIT};
    (void)place;
    (void)as_command; /* it goes alone */
    int error = 0;
    for (unsigned i = 0; i < 2 && error == 0; i++) {
        error = buf_append_slice(&full[i], prefix);
        if (error == 0)
            error = buf_append_slice(&full[i], bounds[i]);
    }
    context.cluster_id = cluster->pd.members.cluster_id;
    context.api_version = cluster->is_v2 ? KVRPCPB__APIVERSION__V2 : KVRPCPB__APIVERSION__V1;
    context.keyspace_id = cluster->is_v2 ? cluster->keyspace_id : 0;
    request.context = &context;
    request.start_key = (ProtobufCBinaryData){.len = full[0].size, .data = full[0].data};
    request.end_key = (ProtobufCBinaryData){.len = full[1].size, .data = full[1].data};
    if (error == 0)
        error = pack_message(message, &request.base);
    buf_deinit(&full[0]);
    buf_deinit(&full[1]);
    return error;
}

static void destroy_on_answer(struct cluster_call *base, kvs_slice body)
{
    struct destroy_part *part = CONTAINER_OF(base, struct destroy_part, base);
    Kvrpcpb__UnsafeDestroyRangeResponse *response =
        kvrpcpb__unsafe_destroy_range_response__unpack(NULL, body.size, body.data);
    char why[TXN_WHY_SIZE] = "a store sent what cannot be read";
    int error = response != NULL ? 0 : KVS_ERR_PROTOCOL;
    if (response != NULL && response->error != NULL && response->error[0] != '\0') {
        error = KVS_ERR_IO;
        snprintf(why, sizeof why, "%s", response->error);
    }
    if (response != NULL)
        kvrpcpb__unsafe_destroy_range_response__free_unpacked(response, NULL);
    cluster_call_end(base);
    destroy_end(part, error, why);
}

static void destroy_on_failed(struct cluster_call *base, int error, const char *why)
{
    char text[TXN_WHY_SIZE];
    snprintf(text, sizeof text, "%s", why);
    destroy_end(CONTAINER_OF(base, struct destroy_part, base), error, text);
}

static const struct cluster_call_methods destroy_methods = {
    .write = destroy_write,
    .on_answer = destroy_on_answer,
    .on_failed = destroy_on_failed,
};

static void destroy_start(struct tikv_chores *chores, struct txn_chore *chore, uint64_t store_id)
{
    struct destroy_part *part = mem_zalloc(sizeof *part);
    if (part == NULL) {
        chore->error = KVS_ERR_NO_MEMORY;
        return;
    }
    part->chore = chore;
    part->base.cluster = chores->cluster;
    part->base.methods = &destroy_methods;
    part->base.message = part->message;
    part->base.path = slice_of_string("/tikvpb.Tikv/UnsafeDestroyRange");
    part->base.deadline_ms = chore->deadline_ms;
    part->base.to_store = store_id;
    chore->pending++;
    cluster_call_start(&part->base);
}

static void stores_on_done(struct pd_request *request, int error, kvs_slice reply, const char *why)
{
    struct chore_question *question = question_take(request);
    struct txn_chore *chore = question->chore;
    Pdpb__GetAllStoresResponse *response = NULL;
    if (error == 0) {
        response = pdpb__get_all_stores_response__unpack(NULL, reply.size, reply.data);
        error = response == NULL                         ? KVS_ERR_PROTOCOL
                : is_refused(question, response->header) ? KVS_ERR_IO
                                                         : 0;
        why = response == NULL ? UNREADABLE : question->refused;
    }
    if (error == 0 && chore->cancelled)
        error = KVS_ERR_CANCELLED;
    chore->error = error;
    chore->pending = 1;
    snprintf(chore->why, sizeof chore->why, "%s", why);
    for (size_t i = 0; error == 0 && i < response->n_stores; i++) {
        if (response->stores[i]->state != METAPB__STORE_STATE__Tombstone)
            destroy_start(question->chores, chore, response->stores[i]->id);
    }
    if (response != NULL)
        pdpb__get_all_stores_response__free_unpacked(response, NULL);
    pd_request_deinit(request);
    if (--chore->pending == 0)
        chore->done(chore, chore->error, chore->why);
}

void tikv_chores_destroy_range(struct tikv_chores *chores, struct txn_chore *chore)
{
    struct chore_question *question = question_new(chores, chore);
    Pdpb__RequestHeader header = header_of(question);
    Pdpb__GetAllStoresRequest message = PDPB__GET_ALL_STORES_REQUEST__INIT;
    message.header = &header;
    message.exclude_tombstone_stores = true;
    ask_pd(question, "/pdpb.PD/GetAllStores", &message.base, stores_on_done);
}

/* --- time ---------------------------------------------------------------------------------------
 */

void tikv_chores_init(struct tikv_chores *chores, struct tikv_cluster *cluster,
                      struct pd_safe_point *safe_point, uint32_t timeout_ms)
{
    chores->cluster = cluster;
    chores->safe_point = safe_point;
    chores->timeout_ms = timeout_ms;
    list_init(&chores->questions);
}

/* All have the same time: the first one's is over first. */
static struct chore_question *first_of(const struct tikv_chores *chores)
{
    return list_empty(&chores->questions)
               ? NULL
               : list_entry(chores->questions.next, struct chore_question, node);
}

void tikv_chores_run(struct tikv_chores *chores, uint64_t now_ms)
{
    struct chore_question *question;
    while ((question = first_of(chores)) != NULL && question->due_ms <= now_ms) {
        const char *trouble = chores->cluster->pd.trouble;
        list_remove(&question->node);
        pd_request_cancel(&question->request);
        question_finish(question, KVS_ERR_TIMEOUT,
                        trouble[0] != '\0' ? trouble : "PD does not answer");
    }
}

uint64_t tikv_chores_timer(const struct tikv_chores *chores)
{
    const struct chore_question *question = first_of(chores);
    return question != NULL ? question->due_ms : UINT64_MAX;
}
