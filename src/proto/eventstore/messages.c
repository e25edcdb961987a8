/* proto/eventstore/messages.c: the tables, from the rows of the header. */
#include "proto/eventstore/messages.h"

#include <stddef.h>

/* clang-format off */
#define HAS_REQUIRED_INT64(S, name) ES_ALWAYS
#define HAS_REQUIRED_INT32(S, name) ES_ALWAYS
#define HAS_REQUIRED_BOOL(S, name) ES_ALWAYS
#define HAS_REQUIRED_BYTES(S, name) ES_ALWAYS
#define HAS_REQUIRED_MESSAGE(S, name) ES_ALWAYS
#define HAS_OPTIONAL_INT64(S, name) offsetof(struct es_##S, has_##name)
#define HAS_OPTIONAL_INT32(S, name) offsetof(struct es_##S, has_##name)
#define HAS_OPTIONAL_BOOL(S, name) offsetof(struct es_##S, has_##name)
#define HAS_OPTIONAL_BYTES(S, name) offsetof(struct es_##S, name)
#define HAS_OPTIONAL_MESSAGE(S, name) offsetof(struct es_##S, has_##name)
#define ROW(S, number, has, kind, type, name) \
    {offsetof(struct es_##S, name), has, number, ES_KIND_##kind, type},
#define ROW_F(S, number, presence, kind, name) \
    ROW(S, number, HAS_##presence##_##kind(S, name), kind, NULL, name)
#define ROW_M(S, number, presence, type, name) \
    ROW(S, number, HAS_##presence##_MESSAGE(S, name), MESSAGE, &es_##type##_type, name)
#define ROW_L(S, number, type, name) \
    ROW(S, number, ES_ALWAYS, MESSAGES, &es_##type##_type, name)
#define ROW_T(S, number, name) ROW(S, number, ES_ALWAYS, TEXTS, NULL, name)

#define TABLE(S) \
    static const struct es_field S##_fields[] = {ES_ROWS_##S(S, ROW_F, ROW_M, ROW_L, ROW_T)}; \
    const struct es_message_type es_##S##_type = { \
        #S, S##_fields, sizeof S##_fields / sizeof S##_fields[0], sizeof(struct es_##S)};
ES_MESSAGE_TYPES(TABLE)
/* clang-format on */

#define TICKS_OF_1970 621355968000000000ll
#define TICKS_MASK 0x3fffffffffffffffll
#define KIND_UTC 0x4000000000000000ll

int64_t es_created_from_unix(int64_t unix_100ns)
{
    if (unix_100ns < -TICKS_OF_1970)
        unix_100ns = -TICKS_OF_1970;
    if (unix_100ns > TICKS_MASK - TICKS_OF_1970)
        unix_100ns = TICKS_MASK - TICKS_OF_1970;
    return (TICKS_OF_1970 + unix_100ns) | KIND_UTC;
}

int64_t es_created_to_unix(int64_t created)
{
    return (created & TICKS_MASK) - TICKS_OF_1970;
}
