/* cli/bench/options.h: what a run of kvs-bench is asked to do. */
#ifndef CLI_BENCH_OPTIONS_H
#define CLI_BENCH_OPTIONS_H

#include "cli/arguments.h"
#include "cli/bench/keyspace.h"
#include "cli/bench/target.h"

enum workload {
    WORKLOAD_SET,
    WORKLOAD_GET,
    WORKLOAD_MIXED,
    WORKLOAD_TXN, /* from here on: transactions */
    WORKLOAD_RMW,
    WORKLOAD_BANK,
    WORKLOAD_APPEND, /* from here on: of event streams */
    WORKLOAD_READ,
    WORKLOAD_SUBSCRIBE,
    WORKLOAD_LIVE,
    WORKLOAD_DEFAULT, /* on the command line: mixed, or append */
};

static inline bool workload_is_transactions(unsigned workload)
{
    return workload >= WORKLOAD_TXN && workload <= WORKLOAD_BANK;
}

static inline bool workload_is_events(unsigned workload)
{
    return workload >= WORKLOAD_APPEND && workload <= WORKLOAD_LIVE;
}

struct bench_options {
    const char *url;
    struct target_tls tls;
    unsigned sync; /* enum kvs_sync, of log:DIR */
    uint64_t connections, idle_connections;
    uint64_t pipeline;
    uint64_t threads; /* 0 on the command line: half the processors */
    uint64_t keys;
    unsigned distribution; /* enum distribution */
    uint64_t key_size, value_size;
    unsigned workload; /* enum workload */
    uint64_t txn_keys;
    bool pessimistic;
    uint64_t batch; /* events of an append */
    uint64_t page;  /* events of a read */
    const char *stream;
    double read_ratio; /* of gets; NAN on the command line: what the workload says */
    double rate;       /* requests per second, 0: closed loop */
    uint64_t warm_up_ms, duration_ms;
    uint64_t requests; /* 0: duration_ms decides */
    uint64_t seed;
    uint64_t timeout_ms;
    bool load;
    bool only_load; /* fill, and measure nothing else */
    bool json;
    bool help, version;
    unsigned completion; /* enum completion_shell */
};

/* Fills the options from the words of the command line, checked and complete. Returns 0, or
 * KVS_ERR_INVALID_ARGUMENT with a message for a person. With help, version or completion set,
 * nothing else was checked. */
int bench_options_parse(struct bench_options *options, int argc, char **argv,
                        char message[ARGUMENTS_MESSAGE_SIZE]);
void bench_options_help(FILE *file);
void bench_options_completion(const struct bench_options *options, FILE *file);
const char *bench_distribution_name(unsigned distribution);

#endif
