/* cli/server/sockets.c: see the header. */
#include "cli/server/sockets.h"

#include "base/mem.h"

#include <fcntl.h>
#include <kvs/error.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FIRST_DESCRIPTOR = 3 };

static const char *const variables[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"};

/* A number without anything around it; -1: it is none. */
static long long number_of(const char *text)
{
    char *end;
    size_t size = strlen(text);
    if (size == 0 || size > 10 || strspn(text, "0123456789") != size)
        return -1;
    return strtoll(text, &end, 10);
}

static int fail(char message[ARGUMENTS_MESSAGE_SIZE], const char *what, const char *value)
{
    snprintf(message, ARGUMENTS_MESSAGE_SIZE, "cannot take the sockets of the starter: %s%.80s",
             what, value);
    return KVS_ERR_INVALID_ARGUMENT;
}

static int take_names(struct passed_by_starter *passed, const char *names,
                      char message[ARGUMENTS_MESSAGE_SIZE])
{
    passed->names = mem_strdup(names);
    if (passed->names == NULL) {
        snprintf(message, ARGUMENTS_MESSAGE_SIZE, "%s", kvs_error_text(KVS_ERR_NO_MEMORY));
        return KVS_ERR_NO_MEMORY;
    }
    char *rest = passed->names;
    for (uint32_t i = 0; i < passed->count; i++) {
        char *name = strsep(&rest, ":");
        if (name == NULL)
            return fail(message, "LISTEN_FDNAMES has fewer names than LISTEN_FDS says: ", names);
        passed->sockets[i].name = name;
    }
    return rest == NULL
               ? 0
               : fail(message, "LISTEN_FDNAMES has more names than LISTEN_FDS says: ", names);
}

static int read_variables(struct passed_by_starter *passed, char message[ARGUMENTS_MESSAGE_SIZE])
{
    const char *process = getenv("LISTEN_PID");
    const char *count_text = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    if (process == NULL || count_text == NULL || number_of(process) != getpid())
        return 0;
    long long count = number_of(count_text);
    if (count < 0 || count > PASSED_SOCKETS_MAX)
        return fail(message, "LISTEN_FDS is no number of at most 48: ", count_text);
    for (int i = 0; i < count; i++) {
        int descriptor = FIRST_DESCRIPTOR + i;
        if (fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0)
            return fail(message, "fewer descriptors are open than LISTEN_FDS says: ", count_text);
        passed->sockets[passed->count++] =
            (struct kvs_server_socket){.name = "unknown", .descriptor = descriptor};
    }
    return count == 0 || names == NULL ? 0 : take_names(passed, names, message);
}

int passed_by_starter_read(struct passed_by_starter *passed, char message[ARGUMENTS_MESSAGE_SIZE])
{
    *passed = (struct passed_by_starter){0};
    int error = read_variables(passed, message);
    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++)
        unsetenv(variables[i]);
    return error;
}

void passed_by_starter_close(struct passed_by_starter *passed)
{
    for (uint32_t i = 0; i < passed->count; i++)
        close(passed->sockets[i].descriptor);
    mem_free(passed->names);
    *passed = (struct passed_by_starter){0};
}
