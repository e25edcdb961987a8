/* proto/eventstore/commands.c: the table by number. */
#include "proto/eventstore/commands.h"

#include <assert.h>
#include <kvs/error.h>

#define FROM_CLIENT .from_client = true
#define FROM_SERVER .from_server = true
#define FROM_BOTH .from_client = true, .from_server = true
#define FROM_NODE .from_client = false

static const struct es_command_info commands[256] = {
#define ROW(number, NAME, text, from, type) \
    [(number)] = {.name = (text), FROM_##from, .body = (type)},
    ES_COMMANDS(ROW)
#undef ROW
};

const struct es_command_info *es_command_info(uint8_t command)
{
    return commands[command].name != NULL ? &commands[command] : NULL;
}

int es_send(struct buf *out, uint8_t command, const struct es_id *correlation,
            const struct es_credentials *credentials, const void *message)
{
    assert(commands[command].body != NULL);
    size_t begin;
    int error = es_frame_begin(out, command, correlation, credentials, &begin);
    if (error != 0)
        return error;
    if (es_message_append(out, commands[command].body, message) != 0) {
        out->size = begin;
        return KVS_ERR_NO_MEMORY;
    }
    return es_frame_finish(out, begin) ? 0 : KVS_ERR_TOO_LARGE;
}
