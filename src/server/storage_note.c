/* server/storage_note.c: see the header. */
#include "server/storage_note.h"

#include "base/clock.h"
#include "base/log.h"

#include <kvs/error.h>
#include <stdbool.h>

#define FULL_EVERY_MS 60000u

/* May it be said now? Of several who ask at once one is told so. */
static bool is_due(_Atomic uint64_t *said_ms, uint64_t every_ms)
{
    uint64_t now_ms = clock_now_ms();
    /* relaxed: ordered with nothing but itself */
    uint64_t said = atomic_load_explicit(said_ms, memory_order_relaxed);
    return (said == 0 || now_ms - said >= every_ms) &&
           atomic_compare_exchange_strong_explicit(said_ms, &said, now_ms > 0 ? now_ms : 1,
                                                   memory_order_relaxed, memory_order_relaxed);
}

void storage_note(struct storage_notes *notes, int error, const char *message)
{
    const char *colon = message[0] != '\0' ? ": " : "";
    switch (error) {
    case KVS_ERR_NO_SPACE:
        if (is_due(&notes->full_ms, FULL_EVERY_MS))
            log_warn("storage: %s%s%s; writes are refused until there is space",
                     kvs_error_text(error), colon, message);
        break;
    case KVS_ERR_TOO_MANY_FILES:
        if (is_due(&notes->files_ms, FULL_EVERY_MS))
            log_warn("storage: %s%s%s; what needs another is refused until some are closed: "
                     "raise the limit (ulimit -n), or lower --connections-max",
                     kvs_error_text(error), colon, message);
        break;
    case KVS_ERR_STORAGE_FAILED:
    case KVS_ERR_IO:
    case KVS_ERR_READ_ONLY:
    case KVS_ERR_CORRUPTION:
        if (is_due(&notes->broken_ms, UINT64_MAX))
            log_error("storage: %s%s%s; reads go on; check the disk, then restart the server",
                      kvs_error_text(error), colon, message);
        break;
    default:
        break;
    }
}
