/*
 * kvs/error.h: the one table of error codes, and the questions a caller asks of a code.
 *
 * Every function that can fail returns 0 or one of these negative numbers; a future carries one.
 * Callers should rather ask a predicate (is it worth retrying? may the write have happened?) than
 * list codes: codes are added over time, the predicates stay right.
 */
#ifndef KVS_ERROR_H
#define KVS_ERROR_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What a caller can do about an error: the flags of the table's last column. */
#define KVS_ERROR_FLAG_RETRY 1u           /* nothing was done; the same call may succeed later */
#define KVS_ERROR_FLAG_MAYBE_COMMITTED 2u /* the write may or may not have happened */
#define KVS_ERROR_FLAG_CONN_DEAD 4u       /* the connection that carried it is gone */
#define KVS_ERROR_FLAG_CORRUPTION 8u      /* bytes on disk or on the wire are not what they were */
#define KVS_ERROR_FLAG_MISUSE 16u         /* the caller broke the contract; nothing was changed */
#define KVS_ERROR_FLAG_RETRY_TXN 32u      /* the whole transaction is worth another attempt */

/* X(symbol, number, text, flags): numbers are part of the kvs protocol and never change. */
#define KVS_ERROR_TABLE(X)                                                                      \
    X(OK, 0, "success", 0)                                                                      \
    X(NOT_FOUND, -1, "key not found", 0)                                                        \
    X(ALREADY_EXISTS, -2, "key already exists", 0)                                              \
    X(CONDITION_FAILED, -3, "the expected value is not the stored one", 0)                      \
    X(INVALID_ARGUMENT, -4, "invalid argument", KVS_ERROR_FLAG_MISUSE)                          \
    X(TOO_LARGE, -5, "key, value or request over the limit", KVS_ERROR_FLAG_MISUSE)             \
    X(UNSUPPORTED, -6, "not supported by this store", KVS_ERROR_FLAG_MISUSE)                    \
    X(NO_MEMORY, -7, "out of memory", KVS_ERROR_FLAG_RETRY)                                     \
    X(IO, -8, "input/output error", 0)                                                          \
    X(NO_SPACE, -9, "no space left on the device", KVS_ERROR_FLAG_RETRY)                        \
    X(PERMISSION, -10, "permission denied", 0)                                                  \
    X(NO_DIRECTORY, -11, "no such directory", 0)                                                \
    X(LOCKED, -12, "in use by another process", 0)                                              \
    X(WRONG_ENGINE, -13, "written by another engine", 0)                                        \
    X(CORRUPTION, -14, "data is damaged", KVS_ERROR_FLAG_CORRUPTION)                            \
    X(STORAGE_FAILED, -15, "storage failed earlier and takes no more writes", 0)                \
    X(CANCELLED, -16, "cancelled", 0)                                                           \
    X(CLOSED, -17, "closed", 0)                                                                 \
    X(TIMEOUT, -18, "deadline passed", KVS_ERROR_FLAG_RETRY)                                    \
    X(OUTCOME_UNKNOWN, -19, "the write may or may not have happened",                           \
      KVS_ERROR_FLAG_MAYBE_COMMITTED)                                                           \
    X(ADDRESS, -20, "address cannot be used", 0)                                                \
    X(CONNECT, -21, "cannot connect", KVS_ERROR_FLAG_RETRY | KVS_ERROR_FLAG_CONN_DEAD)          \
    X(CONNECTION_LOST, -22, "connection lost", KVS_ERROR_FLAG_RETRY | KVS_ERROR_FLAG_CONN_DEAD) \
    X(PROTOCOL, -23, "the peer broke the protocol", KVS_ERROR_FLAG_CONN_DEAD)                   \
    X(VERSION, -24, "the peer speaks no common protocol version", KVS_ERROR_FLAG_CONN_DEAD)     \
    X(BUSY, -25, "too much in flight", KVS_ERROR_FLAG_RETRY)                                    \
    X(WRITE_CONFLICT, -26, "another transaction wrote the key first", KVS_ERROR_FLAG_RETRY_TXN) \
    X(DEADLOCK, -27, "transactions wait for each other's locks", KVS_ERROR_FLAG_RETRY_TXN)      \
    X(LOCK_TIMEOUT, -28, "the key stays locked by another transaction",                         \
      KVS_ERROR_FLAG_RETRY | KVS_ERROR_FLAG_RETRY_TXN)                                          \
    X(LOCK_LOST, -29, "the transaction took too long and was rolled back by others",            \
      KVS_ERROR_FLAG_RETRY_TXN)                                                                 \
    X(TXN_TOO_LARGE, -30, "the transaction writes too much", KVS_ERROR_FLAG_MISUSE)             \
    X(TXN_TOO_OLD, -31,                                                                         \
      "garbage collection has passed the timestamp: what was visible then may be gone",         \
      KVS_ERROR_FLAG_RETRY_TXN)                                                                 \
    X(READ_ONLY, -32, "the file system is read-only", 0)                                        \
    X(TOO_MANY_FILES, -33, "too many open files", KVS_ERROR_FLAG_RETRY)                         \
    X(WRONG_EXPECTED_VERSION, -40, "the stream is not at the expected version", 0)              \
    X(NO_STREAM, -41, "no such stream", 0)                                                      \
    X(STREAM_DELETED, -42, "the stream was deleted for good", 0)                                \
    X(ACCESS_DENIED, -43, "the user may not do this", 0)                                        \
    X(NOT_AUTHENTICATED, -44, "login or password are wrong", 0)

enum kvs_error {
#define X(symbol, number, text, flags) KVS_ERR_##symbol = (number),
    KVS_ERROR_TABLE(X)
#undef X
};

#define KVS_OK 0

/* Short text of a code, e.g. "key not found"; never NULL, static. Any thread. */
const char *kvs_error_text(int error);
/* Symbol of a code, e.g. "NOT_FOUND"; never NULL, static. Any thread. */
const char *kvs_error_name(int error);

/* The questions to ask. All are false for KVS_OK and for numbers outside the table. Any thread. */
bool kvs_error_retryable(int error);       /* nothing happened; trying again may work */
bool kvs_error_maybe_committed(int error); /* a write whose outcome is unknown */
bool kvs_error_connection_dead(int error);
bool kvs_error_corruption(int error);
bool kvs_error_misuse(int error);
/* Of a call in a transaction: nothing of it will be there; a new one from the begin may succeed.
 * True as well for what is retryable. */
bool kvs_error_retry_txn(int error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
