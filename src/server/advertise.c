/* server/advertise.c: see the header. */
#include "server/advertise.h"

#include "net/address.h"
#include "net/connection.h"

#include <stdio.h>
#include <string.h>

bool advertise_is_host(const char *host)
{
    static const char bytes[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:%";
    return host[0] != '\0' && strlen(host) < ADVERTISE_HOST_SIZE &&
           host[strspn(host, bytes)] == '\0';
}

static void split(const char *address, struct advertised *ret_place)
{
    const char *colon = strrchr(address, ':');
    size_t size = colon != NULL ? (size_t)(colon - address) : 0;
    *ret_place = (struct advertised){{0}, 0};
    if (colon == NULL || sscanf(colon + 1, "%u", &ret_place->port) != 1)
        return;
    bool brackets = size >= 2 && address[0] == '[' && address[size - 1] == ']';
    snprintf(ret_place->host, sizeof ret_place->host, "%.*s", (int)(brackets ? size - 2 : size),
             address + brackets);
}

/* The host that the connection came to, which is one of this machine's; but where IPv4 is listened
 * on, nobody is at one of IPv6. */
static void set_reached_host(const struct connection *connection, struct advertised *place)
{
    bool is_v4 = strchr(place->host, ':') == NULL;
    struct sockaddr_storage address;
    int size = sizeof address;
    char text[ADDRESS_TEXT_SIZE];
    struct advertised reached;
    if (uv_tcp_getsockname(&connection->tcp, (struct sockaddr *)&address, &size) != 0)
        return;
    address_format(&address, text);
    split(text, &reached);
    bool mapped = strncmp(reached.host, "::ffff:", 7) == 0 && strchr(reached.host, '.') != NULL;
    const char *host = reached.host + (mapped ? 7 : 0);
    if (!is_v4 || strchr(host, ':') == NULL)
        snprintf(place->host, sizeof place->host, "%s", host);
}

void advertise(const char *named, const char *bound, const struct connection *asking,
               struct advertised *ret_place)
{
    split(bound, ret_place);
    if (ret_place->port == 0)
        return;
    if (named != NULL && named[0] != '\0')
        snprintf(ret_place->host, sizeof ret_place->host, "%s", named);
    else if (strcmp(ret_place->host, "0.0.0.0") == 0 || strcmp(ret_place->host, "::") == 0)
        set_reached_host(asking, ret_place);
}

void advertise_format(const struct advertised *place, char text[ADVERTISE_TEXT_SIZE])
{
    bool is_v6 = strchr(place->host, ':') != NULL;
    snprintf(text, ADVERTISE_TEXT_SIZE, "%s%s%s:%u", is_v6 ? "[" : "", place->host,
             is_v6 ? "]" : "", place->port);
}
