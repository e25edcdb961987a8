/* client/tikv/pd_members.c: see client/tikv/pd_members.h. */
#include "client/tikv/pd_members.h"

#include <kvs/error.h>
#include <stdio.h>
#include <string.h>

/* --- addresses ----------------------------------------------------------------------------------
 */

static bool parse_port(const char *text, size_t size, uint16_t *ret_port)
{
    uint32_t port = 0;
    if (size == 0 || size > 5)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (uint32_t)(text[i] - '0');
    }
    *ret_port = (uint16_t)port;
    return port > 0 && port <= 65535;
}

static bool is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~:%", c) != NULL);
}

static bool parse_host(const char *text, size_t size, struct pd_address *address)
{
    if (size == 0 || size >= sizeof address->host)
        return false;
    for (size_t i = 0; i < size; i++) {
        if (!is_host_byte(text[i]))
            return false;
    }
    memcpy(address->host, text, size);
    address->host[size] = '\0';
    return true;
}

static void skip_scheme(const char **text, size_t *size)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (unsigned i = 0; i < 2; i++) {
        size_t length = strlen(schemes[i]);
        if (*size >= length && memcmp(*text, schemes[i], length) == 0) {
            *text += length;
            *size -= length;
            return;
        }
    }
}

bool pd_address_parse(const char *text, size_t size, struct pd_address *ret_address)
{
    skip_scheme(&text, &size);
    if (size > 0 && text[size - 1] == '/')
        size--;
    *ret_address = (struct pd_address){.port = PD_PORT_DEFAULT};
    if (size > 0 && text[0] == '[') {
        const char *close = memchr(text, ']', size);
        if (close == NULL)
            return false;
        size_t used = (size_t)(close - text) + 1;
        if (used < size && (text[used] != ':' ||
                            !parse_port(text + used + 1, size - used - 1, &ret_address->port)))
            return false;
        return parse_host(text + 1, used - 2, ret_address);
    }
    const char *colon = memchr(text, ':', size);
    size_t host_size = colon != NULL ? (size_t)(colon - text) : size;
    if (colon != NULL && !parse_port(colon + 1, size - host_size - 1, &ret_address->port))
        return false;
    return parse_host(text, host_size, ret_address);
}

static int members_find(const struct pd_members *members, const struct pd_address *address)
{
    for (unsigned i = 0; i < members->count; i++) {
        if (members->addresses[i].port == address->port &&
            strcmp(members->addresses[i].host, address->host) == 0)
            return (int)i;
    }
    return -1;
}

int pd_members_init(struct pd_members *members, const char *list, char *ret_why, size_t size)
{
    *members = (struct pd_members){.leader = -1, .last = -1};
    for (const char *at = list;;) {
        size_t length = strcspn(at, ",");
        struct pd_address address;
        if (!pd_address_parse(at, length, &address)) {
            snprintf(ret_why, size,
                     "\"%.*s\" is no address of PD; they look like 127.0.0.1:2379, with commas "
                     "between several",
                     length < 100 ? (int)length : 100, at);
            return KVS_ERR_INVALID_ARGUMENT;
        }
        if (members_find(members, &address) < 0) {
            if (members->count == PD_ADDRESSES_MAX) {
                snprintf(ret_why, size, "more than %u addresses of PD", PD_ADDRESSES_MAX);
                return KVS_ERR_INVALID_ARGUMENT;
            }
            members->addresses[members->count++] = address;
        }
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    members->given = members->count;
    return 0;
}

/* --- rounds -------------------------------------------------------------------------------------
 */

void pd_members_round(struct pd_members *members)
{
    members->asked = 0;
}

int pd_members_next(struct pd_members *members)
{
    unsigned first = members->last >= 0 ? (unsigned)members->last : 0;
    if (members->asked >= members->count)
        return -1;
    return (int)((first + members->asked++) % members->count);
}

void pd_members_forget_leader(struct pd_members *members)
{
    if (members->leader >= 0)
        members->last = members->leader;
    members->leader = -1;
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* The index of a member's first usable address; it is added when there is room. -1: none. */
static int members_add(struct pd_members *members, const Pdpb__Member *member)
{
    for (size_t i = 0; i < member->n_client_urls; i++) {
        struct pd_address address;
        const char *url = member->client_urls[i];
        if (!pd_address_parse(url, strlen(url), &address))
            continue;
        int index = members_find(members, &address);
        if (index >= 0)
            return index;
        if (members->count < PD_ADDRESSES_MAX) {
            members->addresses[members->count] = address;
            return (int)members->count++;
        }
    }
    return -1;
}

int pd_members_take(struct pd_members *members, const Pdpb__GetMembersResponse *response,
                    char *ret_why, size_t size)
{
    const Pdpb__ResponseHeader *header = response->header;
    if (header == NULL || header->cluster_id == 0) {
        snprintf(ret_why, size, "an answer that names no cluster");
        return KVS_ERR_PROTOCOL;
    }
    if (header->error != NULL) {
        snprintf(ret_why, size, "%.200s", header->error->message);
        return KVS_ERR_CONNECT;
    }
    if (members->cluster_id != 0 && members->cluster_id != header->cluster_id) {
        snprintf(ret_why, size, "belongs to cluster %llu, not to %llu",
                 (unsigned long long)header->cluster_id, (unsigned long long)members->cluster_id);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    if (response->leader == NULL) {
        snprintf(ret_why, size, "PD has no leader now");
        return KVS_ERR_CONNECT;
    }
    /* What earlier answers added is replaced: members come and go. */
    members->count = members->given;
    int leader = members_add(members, response->leader);
    if (leader < 0) {
        snprintf(ret_why, size, "PD's leader \"%.60s\" has no usable address",
                 response->leader->name);
        return KVS_ERR_PROTOCOL;
    }
    for (size_t i = 0; i < response->n_members; i++)
        members_add(members, response->members[i]);
    members->cluster_id = header->cluster_id;
    members->leader = leader;
    members->last = leader;
    return 0;
}
