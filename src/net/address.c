/* net/address.c: see net/address.h. */
#include "net/address.h"

#include <kvs/error.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_port(const char *text, in_port_t *ret_port)
{
    size_t size = strlen(text);
    if (size == 0 || size > 5 || strspn(text, "0123456789") != size)
        return KVS_ERR_ADDRESS;
    unsigned long port = strtoul(text, NULL, 10);
    if (port > 65535)
        return KVS_ERR_ADDRESS;
    *ret_port = htons((in_port_t)port);
    return 0;
}

/* Splits into host (without brackets) and port; false when the form is wrong. */
static bool split(const char *text, char *host, size_t host_size, const char **ret_port,
                  bool *ret_v6)
{
    const char *end;
    *ret_v6 = text[0] == '[';
    if (*ret_v6) {
        text++;
        end = strchr(text, ']');
        if (end == NULL || end[1] != ':')
            return false;
        *ret_port = end + 2;
    } else {
        end = strrchr(text, ':');
        if (end == NULL)
            return false;
        *ret_port = end + 1;
    }
    size_t size = (size_t)(end - text);
    if (size == 0 || size >= host_size)
        return false;
    memcpy(host, text, size);
    host[size] = '\0';
    return true;
}

int address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size)
{
    char host[ADDRESS_TEXT_SIZE];
    const char *port_text;
    bool v6;
    in_port_t port;
    if (!split(text, host, sizeof host, &port_text, &v6) || parse_port(port_text, &port) != 0)
        return KVS_ERR_ADDRESS;
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = port};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = port};
    const void *from = v6 ? (const void *)&in6 : (const void *)&in4;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, host,
                  v6 ? (void *)&in6.sin6_addr : (void *)&in4.sin_addr) != 1)
        return KVS_ERR_ADDRESS;
    *ret_size = v6 ? sizeof in6 : sizeof in4;
    memset(ret_address, 0, sizeof *ret_address);
    memcpy(ret_address, from, *ret_size);
    return 0;
}

socklen_t address_size(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(struct sockaddr_in);
}

in_port_t address_port(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                          : ((const struct sockaddr_in *)address)->sin_port;
}

void address_set_port(struct sockaddr_storage *address, in_port_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = port;
    else
        ((struct sockaddr_in *)address)->sin_port = port;
}

/* Not of digits and dots alone: that is an address with a mistake in it. */
static bool is_name(const char *host)
{
    static const char bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    size_t size = strlen(host);
    return strspn(host, bytes) == size && strspn(host, "0123456789.") < size && host[0] != '-';
}

static bool split_name(const char *text, char host[ADDRESS_NAME_SIZE], const char **ret_port)
{
    bool v6;
    in_port_t port;
    return split(text, host, ADDRESS_NAME_SIZE, ret_port, &v6) && !v6 && is_name(host) &&
           parse_port(*ret_port, &port) == 0;
}

bool address_is_written(const char *text)
{
    struct sockaddr_storage address;
    socklen_t size;
    char host[ADDRESS_NAME_SIZE];
    const char *port;
    return address_parse(text, &address, &size) == 0 || split_name(text, host, &port);
}

/* The hosts file may have an address of a name on several lines. */
static void list_add(struct address_list *list, const struct addrinfo *found)
{
    struct sockaddr_storage address = {0};
    if (found->ai_family != AF_INET && found->ai_family != AF_INET6)
        return;
    memcpy(&address, found->ai_addr, found->ai_addrlen);
    for (unsigned i = 0; i < list->count; i++) {
        if (memcmp(&list->addresses[i], &address, sizeof address) == 0)
            return;
    }
    if (list->count < ADDRESS_LIST_MAX)
        list->addresses[list->count++] = address;
}

int address_resolve_blocking(const char *text, struct address_list *ret_list, const char **ret_why)
{
    struct address_list list = {.count = 0};
    char host[ADDRESS_NAME_SIZE];
    const char *port;
    socklen_t size;
    if (address_parse(text, &list.addresses[0], &size) == 0) {
        list.count = 1;
        *ret_list = list;
        return 0;
    }
    if (!split_name(text, host, &port)) {
        *ret_why = "that is no address";
        return KVS_ERR_ADDRESS;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(host, port, &hints, &found);
    for (const struct addrinfo *at = found; status == 0 && at != NULL; at = at->ai_next)
        list_add(&list, at);
    if (found != NULL)
        freeaddrinfo(found);
    if (list.count == 0) {
        *ret_why = status != 0 ? gai_strerror(status) : "the name has no address";
        return KVS_ERR_ADDRESS;
    }
    *ret_list = list;
    return 0;
}

void address_format(const struct sockaddr_storage *address, char text[ADDRESS_TEXT_SIZE])
{
    char host[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in4 = (const void *)address;
        inet_ntop(AF_INET, &in4->sin_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_SIZE, "%s:%u", host, ntohs(in4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)address;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, ADDRESS_TEXT_SIZE, "[%s]:%u", host, ntohs(in6->sin6_port));
    } else {
        snprintf(text, ADDRESS_TEXT_SIZE, "?");
    }
}
