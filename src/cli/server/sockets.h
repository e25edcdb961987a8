/*
 * cli/server/sockets.h: listening sockets that the starter of the program made, and passes to it.
 *
 * The protocol is that of sd_listen_fds(3): LISTEN_FDS says how many descriptors from 3 on they
 * are, LISTEN_FDNAMES names them, with colons between, and LISTEN_PID says whom all that is meant
 * for: other processes inherit the variables, but not the sockets.
 */
#ifndef CLI_SERVER_SOCKETS_H
#define CLI_SERVER_SOCKETS_H

#include "cli/arguments.h"

#include <kvs/server.h>

enum { PASSED_SOCKETS_MAX = 48 }; /* eight for each part of the server */

struct passed_by_starter {
    struct kvs_server_socket sockets[PASSED_SOCKETS_MAX];
    uint32_t count;
    char *names; /* which the sockets' point into */
};

/*
 * Takes the variables away, so that no child of ours sees them, and marks the descriptors to be
 * closed on exec. Before there are threads. Returns 0, or INVALID_ARGUMENT or NO_MEMORY with a
 * message; close after either.
 */
int passed_by_starter_read(struct passed_by_starter *passed, char message[ARGUMENTS_MESSAGE_SIZE]);
void passed_by_starter_close(struct passed_by_starter *passed);

#endif
