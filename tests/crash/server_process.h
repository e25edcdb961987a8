/*
 * tests/crash/server_process.h: kvs-server as a process of its own, on a directory and a port that
 * the system chose, to be killed at will.
 */
#ifndef TESTS_CRASH_SERVER_PROCESS_H
#define TESTS_CRASH_SERVER_PROCESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/types.h>

struct server_process {
    pid_t pid;
    int stderr_fd;
    struct sockaddr_in address;
    char log[4096]; /* what it wrote until it was ready */
};

/* Starts $KVS_BUILD_DIR/kvs-server with --addr 127.0.0.1:0 and these arguments (NULL at the end),
 * and waits until it names the address that it serves. False after 30 s, or when it ends before:
 * then log says why. */
bool server_process_start(struct server_process *server, const char *const *arguments);

/* Of one with --tikv: where PD and the store listen, from the line behind the first; once. False
 * when none comes. */
bool server_process_tikv(const struct server_process *server, char pd[64], char store[64]);

/* Sends the signal and waits for the end; its wait status. Safe to call again. */
int server_process_end(struct server_process *server, int signal_number);

/* Resident memory in KiB, 0 when it is gone. */
long server_process_resident_kib(const struct server_process *server);
bool server_process_is_alive(const struct server_process *server);

#endif
