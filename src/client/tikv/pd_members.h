/*
 * client/tikv/pd_members.h: which addresses of PD are known, whom to ask next, who leads.
 *
 *   1. pd_members_init: the addresses that the user gave;
 *   2. pd_members_round: a round of asking begins; pd_members_next names one address after the
 *      other, each once, the last leader first;
 *   3. pd_members_take: an answer; when it names a leader, pd_members_leader is its address, and
 *      the members it lists are asked in later rounds, behind those of the user.
 *
 * Pure: no I/O, no clock. Thread: its owner's.
 */
#ifndef CLIENT_TIKV_PD_MEMBERS_H
#define CLIENT_TIKV_PD_MEMBERS_H

#include "pdpb.pb-c.h"

#include <stdbool.h>
#include <stdint.h>

#define PD_ADDRESSES_MAX 32u
#define PD_PORT_DEFAULT 2379u

struct pd_address {
    char host[256];
    uint16_t port;
};

struct pd_members {
    struct pd_address addresses[PD_ADDRESSES_MAX];
    unsigned count;
    unsigned given; /* by the user: they stay */
    int leader;     /* index; -1: unknown */
    int last;       /* the leader before; asked first */
    unsigned asked; /* in this round */
    uint64_t cluster_id;
};

/*
 * HOST[:PORT] with commas between, each maybe with http:// or https:// in front, IPv6 in brackets.
 * Returns 0 or INVALID_ARGUMENT with a line for a person.
 */
int pd_members_init(struct pd_members *members, const char *list, char *ret_why, size_t size);

/* One address, in the same form. False when it is none. */
bool pd_address_parse(const char *text, size_t size, struct pd_address *ret_address);

void pd_members_round(struct pd_members *members);
/* The next one to ask, or -1 when all were. */
int pd_members_next(struct pd_members *members);

/* Returns 0 when a leader is known now, else an error, and why. */
int pd_members_take(struct pd_members *members, const Pdpb__GetMembersResponse *response,
                    char *ret_why, size_t size);

/* Whoever was the leader is not, or does not answer. */
void pd_members_forget_leader(struct pd_members *members);

#endif
