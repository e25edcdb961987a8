/*
 * client/tikv/pd_tso.h: timestamps from PD: one stream, and one message for all who ask in a turn.
 *
 *   1. pd_tso_ask: the request waits for the end of the turn;
 *   2. pd_tso_run: when PD's leader is there, all that wait become one message that asks for as
 *      many timestamps; at most MESSAGES_MAX are under way, what comes meanwhile gathers;
 *   3. an answer names the last one of its message; each request gets its own.
 * Failures: the stream ends (PD's leader moves, a connection breaks), or says nothing for
 * PD_TSO_SILENCE_MS, whatever its connection does: those who were not answered ask again, before
 * the others. Whoever's deadline comes first, asked or not: TIMEOUT, and what PD's trouble is;
 * whoever is given up: CANCELLED. His place in the answer is nobody's.
 * Thread: the loop's.
 */
#ifndef CLIENT_TIKV_PD_TSO_H
#define CLIENT_TIKV_PD_TSO_H

#include "base/heap.h"
#include "client/tikv/pd_client.h"
#include "client/txn/transport.h"

#define PD_TSO_MESSAGES_MAX 2u
#define PD_TSO_SILENCE_MS 10000u

struct tso_message {
    uint32_t count;
    uint32_t given_up; /* of those who asked in it */
};

struct pd_tso {
    struct pd_client *pd;
    struct channel_stream stream;
    struct list waiting; /* struct txn_timestamp */
    struct list sent;
    struct heap due;                                  /* all of them */
    struct tso_message messages[PD_TSO_MESSAGES_MAX]; /* under way, the oldest first */
    unsigned messages_count;
    uint64_t first_number;    /* of the oldest message */
    uint64_t silent_since_ms; /* with messages under way: the last sign, or the first message */
    struct buf message;
};

void pd_tso_init(struct pd_tso *tso, struct pd_client *pd);
/* request->done is called later, by its deadline. */
void pd_tso_ask(struct pd_tso *tso, struct txn_timestamp *request);
/* request->done is called at the end of the turn, if it was not called yet. */
void pd_tso_give_up(struct pd_tso *tso, struct txn_timestamp *request);
/* At the end of each turn, before pd_client_run. */
void pd_tso_run(struct pd_tso *tso, uint64_t now_ms);
uint64_t pd_tso_timer(const struct pd_tso *tso);
/* Nobody asks any more. */
void pd_tso_deinit(struct pd_tso *tso);

#endif
