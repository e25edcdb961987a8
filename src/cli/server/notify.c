/* cli/server/notify.c: the protocol is one datagram; see sd_notify(3). */
#include "cli/server/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void notify_service_manager(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    size_t size = path != NULL ? strlen(path) : 0;
    if (size < 2 || size >= sizeof to.sun_path || (path[0] != '/' && path[0] != '@'))
        return;
    memcpy(to.sun_path, path, size);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* a name without a file */
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return;
    socklen_t to_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    ssize_t ignored = sendto(descriptor, state, strlen(state), MSG_NOSIGNAL,
                             (const struct sockaddr *)&to, to_size);
    (void)ignored;
    close(descriptor);
}
