/*
 * kvs/log.h: what the library has to say to an operator: damage that was found, a disk that failed,
 * a subscription group that cannot be loaded. No call waits for it, and what concerns a call is in
 * its error, too.
 *
 * Without a word of the program, lines from KVS_LOG_WARN on go to standard error, each with the
 * time and the level before it. A kvs_server tells at KVS_LOG_INFO how it starts and stops.
 */
#ifndef KVS_LOG_H
#define KVS_LOG_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum kvs_log_level {
    KVS_LOG_DEBUG = 0,
    KVS_LOG_INFO,
    KVS_LOG_WARN,
    KVS_LOG_ERROR,
    KVS_LOG_SILENT, /* of no line: a bound above all */
};

/*
 * One line, without its end, time or level; control characters of others' texts are shown as '?'.
 * `text` is valid during the call. On any thread of the library, several at a time; it must neither
 * block for long nor call the library.
 */
typedef void kvs_log_fn(enum kvs_log_level level, const char *text, void *arg);

/*
 * From now on lines of `level` and above go to `fn`, those below to nobody; NULL: to standard
 * error. For the whole process: to be called before its first runtime or server is made.
 */
void kvs_log_set(enum kvs_log_level level, kvs_log_fn *fn, void *arg);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
