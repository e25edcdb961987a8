/* net/address.h: "IP:PORT" as people write it, and the system's form of it. No name is looked up.
 */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <sys/socket.h>

#define ADDRESS_TEXT_SIZE 64

/*
 * Parses "127.0.0.1:4000" or "[::1]:4000" (port 0 to 65535). Returns 0 or KVS_ERR_ADDRESS, and then
 * nothing is set.
 */
int address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_size);

/* The same form back; "?" for a family that is not IP. */
void address_format(const struct sockaddr_storage *address, char text[ADDRESS_TEXT_SIZE]);

#endif
