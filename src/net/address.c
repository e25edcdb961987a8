/* net/address.c: see net/address.h. */
#include "net/address.h"

#include <kvs/error.h>

#include <arpa/inet.h>
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
