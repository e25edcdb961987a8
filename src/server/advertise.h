/*
 * server/advertise.h: where clients are told to go, by gossip and by PD.
 *
 * To the host that the operator names; else to the one that is listened on; else, when that is any
 * (0.0.0.0, [::]), to the one that the client who asks has reached, which is this machine.
 */
#ifndef SERVER_ADVERTISE_H
#define SERVER_ADVERTISE_H

#include <stdbool.h>

struct connection;

#define ADVERTISE_HOST_SIZE 256u
#define ADVERTISE_TEXT_SIZE (ADVERTISE_HOST_SIZE + sizeof "[]:65535")

struct advertised {
    char host[ADVERTISE_HOST_SIZE]; /* a name or an IP address, without brackets */
    unsigned port;                  /* 0: not served */
};

/* A name or an IP address, without a port, that may stand in JSON as it is. */
bool advertise_is_host(const char *host);

/* `named` may be NULL or ""; `bound` is "IP:PORT", or "" for what is not served. */
void advertise(const char *named, const char *bound, const struct connection *asking,
               struct advertised *ret_place);

/* "HOST:PORT", with brackets around IPv6. */
void advertise_format(const struct advertised *place, char text[ADVERTISE_TEXT_SIZE]);

#endif
