/*
 * kvs/server.h: kvs-server inside a program of one's own (tests, edge boxes).
 *
 * The server runs on threads of its own; open and close block. What it has to say goes where
 * kvs/log.h says.
 */
#ifndef KVS_SERVER_H
#define KVS_SERVER_H

#include <kvs/store.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct kvs_server kvs_server;

/* eventstore: which streams of links are kept; a change holds for events that come after it. */
enum kvs_projections {
    KVS_PROJECTIONS_COMMON = 0, /* $streams, $ce-CATEGORY, $et-TYPE */
    KVS_PROJECTIONS_NONE,
    KVS_PROJECTIONS_ALL, /* $category-CATEGORY and $bc-CORRELATION-ID, too */
};

/* A listening TCP socket that is there already, as one that a service manager keeps while the
 * server starts anew: clients that come meanwhile wait. `name` says which part of the server
 * accepts there, in place of its address in the options: "kvs"; of tikv "pd", "tikv" (the store)
 * and "status"; "eventstore", "http". Several (8 at most) may have the same name. */
struct kvs_server_socket {
    const char *name;
    int descriptor; /* stays the caller's: the server uses a copy; is, and stays, non-blocking */
};

/* Zero (or NULL) means the default in every field. Set size = sizeof(struct kvs_server_options). */
struct kvs_server_options {
    uint32_t size;
    /* "HOST:PORT", here and below an IP address or a name, which is looked up: then all of its
     * addresses that this machine has. Default 127.0.0.1:4000; port 0: any free one. */
    const char *address;
    /* "kvs", "rocksdb" (for data that does not fit in memory) or "memory"; default what the
     * directory was made with, else kvs. "tikv": the data lives on a TiKV cluster, see `pd` */
    const char *engine;
    const char *directory; /* default "." */
    uint32_t threads;      /* network loops; default one per core */
    uint32_t pool_threads; /* threads for blocking calls; default 4 */
    enum kvs_sync sync;
    uint32_t sync_interval_ms;    /* default 1000 */
    uint32_t value_size_max;      /* default 16 MiB, at most 64 MiB */
    uint32_t connections_max;     /* default 20000; further ones are told BUSY and closed */
    uint32_t idle_timeout_ms;     /* 0: never; else a connection without requests is closed */
    uint32_t slow_timeout_ms;     /* a peer that does not read its replies; default 60000 */
    uint64_t in_flight_bytes_max; /* requests and replies of one connection; default 64 MiB */
    /* Engine kvs: of a file of the log; default 64 MiB, less on a disk of less than 1 GiB. Memory
     * for values; default a quarter of the machine's. With eventstore or http, and without tikv:
     * default 8 MiB each. */
    uint64_t segment_size_bytes;
    uint64_t cache_size_bytes;
    /* "PD,STORE,STATUS": also serve TiKV's clients, at these addresses. What is left out,
     * from the end or empty, is 127.0.0.1:2379, 127.0.0.1:20160, and port 20180 of the store's IP;
     * port 0: any free one. NULL: no. */
    const char *tikv;
    const char *keyspaces; /* for TiKV's clients, beside DEFAULT: names with commas between */
    /* engine tikv: PD's addresses, "HOST[:PORT][,...][/KEYSPACE]", and for TLS the files (PEM) of
     * the cluster's authorities, and of this client's certificate and key. What such a server can
     * and cannot do is what kvs/store.h says of tikv:// */
    const char *pd;
    const char *pd_ca;
    const char *pd_certificate;
    const char *pd_key;
    /* With tikv: a region with more keys, or more bytes of keys and values, is cut into parts of
     * about half of that; 0: only on request. Bounds are such that all of TiKV's clients can read
     * them; with split_raw any raw key may be one, which clients of transactions and of keyspaces
     * cannot read. */
    uint64_t split_keys;
    uint64_t split_bytes;
    bool split_raw;
    /* TLS on every port: this server's certificate (its chain) and key, and, to let in only clients
     * that show a certificate, the authorities that signed it. Files in PEM; NULL: no TLS. */
    const char *tls_certificate;
    const char *tls_key;
    const char *tls_ca;
    /* Serve event streams to EventStoreDB's TCP clients, and what they ask over HTTP, at these
     * addresses; "": 127.0.0.1:1113 and 127.0.0.1:2113; port 0: any free one. NULL: no. */
    const char *eventstore;
    const char *http;
    bool insecure; /* event streams: nobody is asked who he is, everything is allowed */
    /* http, tikv: the host that gossip and PD tell clients to go to, a name or an address. NULL:
     * the one that is listened on, or, if that is any (0.0.0.0), the one that the client has
     * reached. */
    const char *advertise;
    bool gossip_master; /* http: gossip says "Master", as clients from before 2020 want, and not
                           "Leader" */
    const char *backup_directory; /* where kvs_store_checkpoint may make directories; NULL: not */
    /* Requests and replies of all connections in memory; beyond it, those that hold more than
     * others are closed. Of TiKV's clients one reply may have half of it, and 2 GiB at most.
     * Default half of the machine's memory (or of the container's). */
    uint64_t connections_bytes_max;
    /* eventstore: a client that has sent nothing for so long is asked for a sign of life, default
     * 2000, and has so long to send anything, default 1000. */
    uint32_t heartbeat_interval_ms;
    uint32_t heartbeat_timeout_ms;
    enum kvs_projections projections;
    /* eventstore: how often $stats-IP:PORT gets an event while clients ask for anything; 0: never.
     * kvs-server says 30000 unless told otherwise. */
    uint32_t stats_interval_ms;
    enum kvs_file_io file_io; /* engine kvs: see kvs/store.h */
    bool cache_prefault;      /* likewise */
    const struct kvs_server_socket *sockets;
    uint32_t sockets_count;
};

/* Opens the directory, listens, serves. On failure ret_message (may be NULL) gets one line for a
 * person, which the caller frees with free(); NULL when there is no memory for it. */
int kvs_server_open(const struct kvs_server_options *options, kvs_server **ret_server,
                    char **ret_message);

/* The address it listens on, "IP:PORT"; the server owns it. */
const char *kvs_server_address(const kvs_server *server);

/* With tikv: the addresses of PD, of the store and of its status; "" without. Likewise. */
const char *kvs_server_pd_address(const kvs_server *server);
const char *kvs_server_tikv_address(const kvs_server *server);
const char *kvs_server_tikv_status_address(const kvs_server *server);

/* With eventstore, with http: their addresses; "" without. Likewise. */
const char *kvs_server_eventstore_address(const kvs_server *server);
const char *kvs_server_http_address(const kvs_server *server);

/* Stops accepting, finishes what was accepted (at most `grace_ms`), syncs, frees. Returns the error
 * of the last sync, if any. */
int kvs_server_close(kvs_server *server, uint32_t grace_ms);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
