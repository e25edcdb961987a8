/*
 * pd/cluster.h: the cluster of one store that `--tikv` shows: its id, its addresses, and the state
 * that PD keeps for it. The PD service and the TiKV service share it.
 */
#ifndef PD_CLUSTER_H
#define PD_CLUSTER_H

#include "net/address.h"
#include "pd/region_map.h"

/* What we say we are: clients choose by it what they may use. */
#define CLUSTER_TIKV_VERSION "8.5.0"

struct tso;
struct gc_state;
struct keyspaces;

struct cluster {
    uint64_t id; /* random, made once */
    struct engine *engine;
    struct meta_store meta;
    struct region_map *regions;
    struct tso *tso;
    struct gc_state *gc;
    struct keyspaces *keyspaces;
    uint64_t started_ms;                    /* wall clock */
    bool speaks_tls;                        /* its URLs begin with https:// */
    char pd_address[ADDRESS_TEXT_SIZE];     /* "IP:PORT", as bound */
    char store_address[ADDRESS_TEXT_SIZE];  /* likewise */
    char status_address[ADDRESS_TEXT_SIZE]; /* likewise */
    const char *advertise; /* a host that clients are told instead; NULL, "": none */
};

struct cluster_options {
    const char *keyspaces;     /* names beside DEFAULT, with commas between; NULL: none */
    uint64_t (*wall_ms)(void); /* the clock of the timestamps; NULL: the machine's */
};

/* Reads or makes it. The addresses, and whether they speak TLS, are the caller's to fill in. On
 * failure a reason is in ret_message. */
int cluster_open_blocking(struct engine *engine, const struct cluster_options *options,
                          struct cluster **ret_cluster, struct engine_message *ret_message);
/* No change is under way. */
void cluster_free(struct cluster *cluster);

#endif
