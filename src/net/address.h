/* net/address.h: "IP:PORT" as people write it, and the system's form of it; and names of hosts. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_SIZE 64

/*
 * Parses "127.0.0.1:4000" or "[::1]:4000" (port 0 to 65535). Returns 0 or KVS_ERR_ADDRESS, and then
 * nothing is set.
 */
int address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size);

#define ADDRESS_LIST_MAX 8u
#define ADDRESS_NAME_SIZE 272 /* of "HOST:PORT", with its end */

struct address_list {
    struct sockaddr_storage addresses[ADDRESS_LIST_MAX];
    unsigned count;
};

/* Of addresses of IP. */
socklen_t address_size(const struct sockaddr_storage *address);
in_port_t address_port(const struct sockaddr_storage *address); /* in the order of the network */
void address_set_port(struct sockaddr_storage *address, in_port_t port);

/* Is it what address_parse takes, or the name of a host in place of the IP? */
bool address_is_written(const char *text);

/*
 * All addresses of what is written so, each once, in the system's order. A name is looked up, which
 * blocks. Returns 0; ADDRESS, and then *ret_why is static text: it has none.
 */
int address_resolve_blocking(const char *text, struct address_list *ret_list, const char **ret_why);

/* The same form back; "?" for a family that is not IP. */
void address_format(const struct sockaddr_storage *address, char text[ADDRESS_TEXT_SIZE]);

#endif
