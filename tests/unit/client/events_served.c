/* events_served.c: see the header. */
#include "events_served.h"

#include "events_contract.h"
#include "times.h"
#include "unit/net/certificates.h"

#include <kvs/server.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int serve_and_run(enum events_way way, const char *directory)
{
    char url[400];
    char *why = NULL;
    kvs_server *server;
    bool tls = way == EVENTS_BY_TLS;
    const struct kvs_server_options options = {
        .size = sizeof options,
        .address = "127.0.0.1:0",
        .engine = "memory",
        .directory = directory,
        .threads = 1,
        .tls_certificate = tls ? certificate_path("server.pem") : NULL,
        .tls_key = tls ? certificate_path("server.key") : NULL,
        .eventstore = "127.0.0.1:0",
        .http = "127.0.0.1:0",
        .heartbeat_timeout_ms = PATIENT_MS,
    };
    if (kvs_server_open(&options, &server, &why) != 0) {
        fprintf(stderr, "the server does not open: %s\n", why != NULL ? why : "");
        free(why);
        return 1;
    }
    const char *address = way == EVENTS_BY_TCP ? kvs_server_eventstore_address(server)
                                               : kvs_server_http_address(server);
    const char *http_port = strrchr(kvs_server_http_address(server), ':') + 1;
    snprintf(url, sizeof url, "esdb%s://admin:changeit@%s?%s%s%s%s",
             way == EVENTS_BY_TCP ? "" : "+discover", address, tls ? "tls=true&tlsCaFile=" : "",
             tls ? certificate_path("ca.pem") : "", way == EVENTS_BY_TCP ? "httpPort=" : "",
             way == EVENTS_BY_TCP ? http_port : "");
    const struct events_kind kind = {.url = url, .has_groups = true};
    int status = events_contract_main(&kind);
    return kvs_server_close(server, PATIENT_MS) == 0 ? status : 1;
}

int events_served_main(enum events_way way)
{
    char directory[] = "/tmp/kvs-test-XXXXXX";
    if (mkdtemp(directory) == NULL)
        return 1;
    if (way == EVENTS_BY_TLS)
        certificates_make();
    int status = serve_and_run(way, directory);
    if (way == EVENTS_BY_TLS)
        certificates_remove();
    rmdir(directory);
    return status;
}
