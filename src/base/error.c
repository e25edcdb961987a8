/* base/error.c: the public error table as text and flags. */
#include "base/error.h"

#include <errno.h>
#include <stddef.h>

struct error_row {
    const char *name;
    const char *text;
    unsigned flags;
};

static const struct error_row rows[] = {
#define X(symbol, number, text, flags) [-(number)] = {#symbol, text, flags},
    KVS_ERROR_TABLE(X)
#undef X
};

static const struct error_row *row_of(int error)
{
    static const struct error_row unknown = {"UNKNOWN", "unknown error", 0};
    if (error > 0 || error <= -(int)(sizeof rows / sizeof rows[0]))
        return &unknown;
    return rows[-error].name != NULL ? &rows[-error] : &unknown; /* numbers have gaps */
}

const char *kvs_error_text(int error)
{
    return row_of(error)->text;
}

const char *kvs_error_name(int error)
{
    return row_of(error)->name;
}

bool kvs_error_retryable(int error)
{
    return (row_of(error)->flags & KVS_ERROR_FLAG_RETRY) != 0;
}

bool kvs_error_maybe_committed(int error)
{
    return (row_of(error)->flags & KVS_ERROR_FLAG_MAYBE_COMMITTED) != 0;
}

bool kvs_error_connection_dead(int error)
{
    return (row_of(error)->flags & KVS_ERROR_FLAG_CONN_DEAD) != 0;
}

bool kvs_error_corruption(int error)
{
    return (row_of(error)->flags & KVS_ERROR_FLAG_CORRUPTION) != 0;
}

bool kvs_error_misuse(int error)
{
    return (row_of(error)->flags & KVS_ERROR_FLAG_MISUSE) != 0;
}

int error_from_errno(int errno_value)
{
    switch (errno_value) {
    case ENOMEM:
        return KVS_ERR_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return KVS_ERR_NO_SPACE;
    case EACCES:
    case EPERM:
        return KVS_ERR_PERMISSION;
    case EROFS:
        return KVS_ERR_READ_ONLY;
    case EMFILE:
    case ENFILE:
        return KVS_ERR_TOO_MANY_FILES;
    case ENOENT:
    case ENOTDIR:
        return KVS_ERR_NO_DIRECTORY;
    case EADDRINUSE:
    case EADDRNOTAVAIL:
        return KVS_ERR_ADDRESS;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return KVS_ERR_CONNECT;
    case ECONNRESET:
    case EPIPE:
    case ECONNABORTED:
        return KVS_ERR_CONNECTION_LOST;
    case ETIMEDOUT:
        return KVS_ERR_TIMEOUT;
    case ECANCELED:
        return KVS_ERR_CANCELLED;
    default:
        return KVS_ERR_IO;
    }
}

bool kvs_error_retry_txn(int error)
{
    return (row_of(error)->flags & (KVS_ERROR_FLAG_RETRY_TXN | KVS_ERROR_FLAG_RETRY)) != 0;
}
