/* tests/unit/proto/es_random.h: random messages of the EventStoreDB protocol, for tests. */
#ifndef TESTS_ES_RANDOM_H
#define TESTS_ES_RANDOM_H

#include "base/arena.h"
#include "base/rand.h"
#include "proto/eventstore/messages.h"

/* Fills a struct of the type; what it points at lies in the arena. Texts have no NUL and are never
 * over 40 bytes; lists hold at most three. */
void es_random_message(const struct es_message_type *type, struct rand *rand, struct arena *arena,
                       void *ret_message);

#endif
