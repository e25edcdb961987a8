/* cli/server/options.h: the command line and configuration file of kvs-server. */
#ifndef CLI_SERVER_OPTIONS_H
#define CLI_SERVER_OPTIONS_H

#include "cli/arguments.h"

/* Sizes in bytes, times in milliseconds; 0 is the server's default where that is not 0 itself. */
struct server_settings {
    const char *address;
    const char *engine;
    const char *directory;
    const char *config;
    const char *repair;
    const char *backup_directory;
    const char *tikv;
    const char *keyspaces;
    const char *pd;
    const char *pd_ca;
    const char *pd_certificate;
    const char *pd_key;
    const char *tls_certificate;
    const char *tls_key;
    const char *tls_ca;
    const char *eventstore;
    const char *http;
    const char *test_faults; /* in builds with faults */
    uint64_t threads;
    uint64_t pool_threads;
    uint64_t sync_interval_ms;
    uint64_t segment_size;
    uint64_t cache_size;
    uint64_t value_max;
    uint64_t connections_max;
    uint64_t idle_timeout_ms;
    uint64_t slow_timeout_ms;
    uint64_t in_flight_max;
    uint64_t connections_memory;
    uint64_t grace_ms;
    uint64_t split_keys;
    uint64_t split_size;
    unsigned sync;      /* enum kvs_sync */
    unsigned file_io;   /* enum kvs_file_io */
    unsigned log_level; /* enum log_level */
    bool split_raw;
    bool cache_prefault;
    bool insecure;
    const char *advertise;
    uint64_t stats_interval_ms;
    unsigned projections; /* enum kvs_projections */
    uint64_t heartbeat_interval_ms;
    uint64_t heartbeat_timeout_ms;
    bool gossip_master;
    bool verify;
    bool help;
    bool version;
    unsigned completion;         /* enum completion_shell */
    uint64_t given;              /* which rows were, a bit each */
    struct settings_word *words; /* of the file, which texts point into */
};

/*
 * Reads the command line, and the file that --config names; what stands on the command line wins.
 * Texts point into argv or belong to the settings. Returns 0, or an error with a message; deinit
 * after either.
 */
int server_settings_parse(struct server_settings *settings, int argc, char **argv,
                          char message[ARGUMENTS_MESSAGE_SIZE]);
void server_settings_deinit(struct server_settings *settings);

void server_settings_help(FILE *file);
void server_settings_completion(const struct server_settings *settings, FILE *file);

#endif
