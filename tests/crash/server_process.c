/* tests/crash/server_process.c: see server_process.h. */
#include "crash/server_process.h"

#include "base/clock.h"
#include "times.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX 32

static void server_exec(int stderr_fd, const char *const *arguments)
{
    const char *folder = getenv("KVS_BUILD_DIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/kvs-server", folder != NULL ? folder : ".");
    const char *list[ARGUMENTS_MAX] = {path, "--addr", "127.0.0.1:0"};
    for (unsigned i = 0; arguments[i] != NULL && i + 4 < ARGUMENTS_MAX; i++)
        list[i + 3] = arguments[i];
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* nothing is left running when a test dies */
    dup2(stderr_fd, STDERR_FILENO);
    execv(path, (char *const *)list);
    dprintf(STDERR_FILENO, "cannot run %s\n", path);
    _exit(127);
}

/* "... 127.0.0.1:12345 ..." of a whole line. */
static bool find_address(const char *log, struct sockaddr_in *ret_address)
{
    const char *at = log;
    while ((at = strstr(at, "127.0.0.1:")) != NULL) {
        at += strlen("127.0.0.1:");
        long port = strtol(at, NULL, 10);
        if (port > 0 && port < 65536 && strchr(at, '\n') != NULL) {
            *ret_address = (struct sockaddr_in){.sin_family = AF_INET,
                                                .sin_port = htons((uint16_t)port),
                                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
            return true;
        }
    }
    return false;
}

/* Reads the log until the address comes. */
static bool server_wait_ready(struct server_process *server)
{
    uint64_t end_ms = clock_now_ms() + PATIENT_MS;
    size_t size = 0;
    while (clock_now_ms() < end_ms && size + 1 < sizeof server->log) {
        struct pollfd readable = {.fd = server->stderr_fd, .events = POLLIN};
        if (poll(&readable, 1, 100) <= 0)
            continue;
        ssize_t got = read(server->stderr_fd, server->log + size, sizeof server->log - 1 - size);
        if (got <= 0)
            return false;
        size += (size_t)got;
        server->log[size] = '\0';
        if (find_address(server->log, &server->address))
            return true;
    }
    return false;
}

bool server_process_start(struct server_process *server, const char *const *arguments)
{
    *server = (struct server_process){.pid = -1, .stderr_fd = -1};
    int pipe_fds[2];
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return false;
    server->pid = fork();
    if (server->pid == 0)
        server_exec(pipe_fds[1], arguments);
    close(pipe_fds[1]);
    server->stderr_fd = pipe_fds[0];
    if (server->pid > 0 && server_wait_ready(server)) {
        /* Nobody reads on: what it logs later must not fill the pipe and stop it. */
        fcntl(server->stderr_fd, F_SETPIPE_SZ, 1024 * 1024);
        return true;
    }
    server_process_end(server, SIGKILL);
    return false;
}

bool server_process_tikv(const struct server_process *server, char pd[64], char store[64])
{
    char log[sizeof server->log];
    size_t size = strlen(server->log);
    memcpy(log, server->log, size + 1);
    const char *at;
    while ((at = strstr(log, "PD on ")) == NULL || strchr(at, '\n') == NULL) {
        struct pollfd readable = {.fd = server->stderr_fd, .events = POLLIN};
        if (size + 1 >= sizeof log || poll(&readable, 1, -1) <= 0)
            return false;
        ssize_t got = read(server->stderr_fd, log + size, sizeof log - 1 - size);
        if (got <= 0)
            return false;
        size += (size_t)got;
        log[size] = '\0';
    }
    return sscanf(at, "PD on %63[^,], store on %63[^,]", pd, store) == 2;
}

int server_process_end(struct server_process *server, int signal_number)
{
    int status = 0;
    if (server->pid > 0) {
        kill(server->pid, signal_number);
        waitpid(server->pid, &status, 0);
    }
    if (server->stderr_fd >= 0)
        close(server->stderr_fd);
    server->pid = -1;
    server->stderr_fd = -1;
    return status;
}

long server_process_resident_kib(const struct server_process *server)
{
    char path[64];
    char line[256];
    long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)server->pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        sscanf(line, "VmRSS: %ld", &kib);
    if (file != NULL)
        fclose(file);
    return kib;
}

bool server_process_is_alive(const struct server_process *server)
{
    return server->pid > 0 && waitpid(server->pid, NULL, WNOHANG) == 0;
}
