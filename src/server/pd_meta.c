/*
 * server/pd_meta.c: keyspaces, PD's small store, and what clients want of etcd; see pd_service.h.
 *
 * The small store and etcd are empty: a read finds nothing, and what is put is forgotten. Clients
 * look there for services that a single node does not have.
 */
#include "server/pd_parts.h"

#include "etcdserverpb.pb-c.h"
#include "keyspacepb.pb-c.h"
#include "meta_storagepb.pb-c.h"
#include "pd/keyspaces.h"

static void answer_keyspace(struct rpc *rpc, const struct keyspace *keyspace)
{
    Keyspacepb__LoadKeyspaceResponse response = KEYSPACEPB__LOAD_KEYSPACE_RESPONSE__INIT;
    Keyspacepb__KeyspaceMeta meta = KEYSPACEPB__KEYSPACE_META__INIT;
    struct pd_error_header header;
    if (keyspace == NULL) {
        response.header = pd_error_header(rpc, &header, PDPB__ERROR_TYPE__ENTRY_NOT_FOUND,
                                          "keyspace does not exist");
    } else {
        meta.keyspace_case = KEYSPACEPB__KEYSPACE_META__KEYSPACE_ID;
        meta.id = keyspace->id;
        meta.name = (char *)(uintptr_t)keyspace->name;
        meta.state = KEYSPACEPB__KEYSPACE_STATE__ENABLED;
        meta.created_at = meta.state_changed_at = (int64_t)(keyspace->created_ms / 1000);
        response.keyspace = &meta;
        response.header = pd_header(rpc, &header.header);
    }
    rpc_reply_message(rpc, &response.base);
}

void pd_load_keyspace(struct rpc *rpc, kvs_slice message)
{
    Keyspacepb__LoadKeyspaceRequest *request =
        rpc_unpack(rpc, &keyspacepb__load_keyspace_request__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        answer_keyspace(
            rpc, keyspace_by_name(pd_cluster(rpc)->keyspaces, slice_of_string(request->name)));
}

void pd_load_keyspace_by_id(struct rpc *rpc, kvs_slice message)
{
    Keyspacepb__LoadKeyspaceByIDRequest *request =
        rpc_unpack(rpc, &keyspacepb__load_keyspace_by_idrequest__descriptor, message);
    if (request != NULL && pd_check_header(rpc, request->header))
        answer_keyspace(rpc, keyspace_by_id(pd_cluster(rpc)->keyspaces, request->id));
}

void pd_meta_get(struct rpc *rpc, kvs_slice message)
{
    (void)message;
    MetaStoragepb__ResponseHeader header = META_STORAGEPB__RESPONSE_HEADER__INIT;
    MetaStoragepb__GetResponse response = META_STORAGEPB__GET_RESPONSE__INIT;
    header.cluster_id = pd_cluster(rpc)->id;
    header.revision = 1;
    response.header = &header;
    rpc_reply_message(rpc, &response.base);
}

static Etcdserverpb__ResponseHeader *etcd_header(const struct rpc *rpc,
                                                 Etcdserverpb__ResponseHeader *header)
{
    etcdserverpb__response_header__init(header);
    header->cluster_id = pd_cluster(rpc)->id;
    header->member_id = PD_MEMBER_ID;
    header->revision = 1;
    header->raft_term = 1;
    return header;
}

void pd_etcd_member_list(struct rpc *rpc, kvs_slice message)
{
    (void)message;
    struct pd_places places;
    pd_tell_places(pd_cluster(rpc), pd_asking(rpc), &places);
    char *urls[] = {places.pd_url};
    Etcdserverpb__ResponseHeader header;
    Etcdserverpb__Member member = ETCDSERVERPB__MEMBER__INIT;
    member.id = PD_MEMBER_ID;
    member.name = (char *)(uintptr_t)PD_MEMBER_NAME;
    member.n_peer_urls = member.n_client_urls = 1;
    member.peer_urls = member.client_urls = urls;
    Etcdserverpb__Member *members[] = {&member};
    Etcdserverpb__MemberListResponse response = ETCDSERVERPB__MEMBER_LIST_RESPONSE__INIT;
    response.header = etcd_header(rpc, &header);
    response.n_members = 1;
    response.members = members;
    rpc_reply_message(rpc, &response.base);
}

void pd_etcd_range(struct rpc *rpc, kvs_slice message)
{
    (void)message;
    Etcdserverpb__ResponseHeader header;
    Etcdserverpb__RangeResponse response = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    response.header = etcd_header(rpc, &header);
    rpc_reply_message(rpc, &response.base);
}

void pd_etcd_put(struct rpc *rpc, kvs_slice message)
{
    (void)message;
    Etcdserverpb__ResponseHeader header;
    Etcdserverpb__PutResponse response = ETCDSERVERPB__PUT_RESPONSE__INIT;
    response.header = etcd_header(rpc, &header);
    rpc_reply_message(rpc, &response.base);
}
