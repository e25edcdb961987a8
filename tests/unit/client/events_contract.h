/* events_contract.h: what kvs/events.h promises, as one list of tests for every kind of URL. */
#ifndef TESTS_UNIT_CLIENT_EVENTS_CONTRACT_H
#define TESTS_UNIT_CLIENT_EVENTS_CONTRACT_H

#include <kvs/kvs.h>

struct events_kind {
    const char *url;
    bool has_groups;
};

/* Runs the list; the exit status of a test program. */
int events_contract_main(const struct events_kind *kind);
/* On SCHEME:DIR, in a fresh directory. */
int events_contract_in_directory(const char *scheme);

#endif
