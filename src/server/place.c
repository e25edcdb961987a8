/* server/place.c: see the header. */
#include "server/place.h"

#include <kvs/error.h>
#include <stdio.h>
#include <string.h>

int passed_sockets_check(struct passed_sockets passed, const struct kvs_server_options *options,
                         char message[256])
{
    const struct {
        const char *name;
        const char *option; /* NULL: it is always served */
        bool served;
    } parts[] = {
        {"kvs", NULL, true},
        {"pd", "--tikv", options->tikv != NULL},
        {"tikv", "--tikv", options->tikv != NULL},
        {"status", "--tikv", options->tikv != NULL},
        {"eventstore", "--eventstore", options->eventstore != NULL},
        {"http", "--http", options->http != NULL},
    };
    for (uint32_t i = 0; i < passed.count; i++) {
        const char *name = passed.sockets != NULL ? passed.sockets[i].name : NULL;
        size_t part = 0;
        if (name == NULL) {
            snprintf(message, 256, "a socket was passed without a name: set its `name`");
            return KVS_ERR_INVALID_ARGUMENT;
        }
        while (part < sizeof parts / sizeof parts[0] && strcmp(parts[part].name, name) != 0)
            part++;
        if (part < sizeof parts / sizeof parts[0] && parts[part].served)
            continue;
        if (part < sizeof parts / sizeof parts[0])
            snprintf(message, 256,
                     "a socket was passed by the name \"%s\": add %s, or leave it out", name,
                     parts[part].option);
        else
            snprintf(message, 256,
                     "a socket was passed by the name \"%.60s\", which is none of kvs, pd, tikv, "
                     "status, eventstore, http: set FileDescriptorName= in its unit",
                     name);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    return 0;
}

bool passed_sockets_have(struct passed_sockets passed, const char *name)
{
    for (uint32_t i = 0; i < passed.count; i++) {
        if (strcmp(passed.sockets[i].name, name) == 0)
            return true;
    }
    return false;
}

static int take(const struct kvs_server_socket *socket, struct listener *listener,
                char message[256])
{
    int error = listener_take(listener, socket->descriptor);
    if (error == KVS_ERR_ADDRESS)
        snprintf(
            message, 256,
            "the socket that was passed by the name \"%s\", descriptor %d, does not listen for "
            "TCP connections: write ListenStream=IP:PORT, and no Accept=, in its unit",
            socket->name, socket->descriptor);
    else if (error == KVS_ERR_TOO_LARGE)
        snprintf(message, 256,
                 "more than %u sockets were passed by the name \"%s\": leave some out",
                 LISTENER_SOCKETS_MAX, socket->name);
    else if (error != 0)
        snprintf(message, 256, "cannot use the socket that was passed by the name \"%s\": %s",
                 socket->name, kvs_error_text(error));
    return error;
}

int place_listen_blocking(const struct place *place, struct passed_sockets passed,
                          struct listener *listener, char message[256])
{
    bool asked = place->address != NULL && place->address[0] != '\0';
    bool have = passed_sockets_have(passed, place->name);
    int error = 0;
    if (!have)
        return listener_bind_blocking(listener, asked ? place->address : place->otherwise,
                                      place->option, message);
    if (asked) {
        snprintf(
            message, 256,
            "a socket was passed by the name \"%s\", and an address is given, %.60s: leave one "
            "of them out (%s)",
            place->name, place->address, place->option);
        return KVS_ERR_INVALID_ARGUMENT;
    }
    for (uint32_t i = 0; i < passed.count && error == 0; i++) {
        if (strcmp(passed.sockets[i].name, place->name) == 0)
            error = take(&passed.sockets[i], listener, message);
    }
    return error;
}
