/* kvs/kvs.h: everything a program needs in one include; the headers it names are the contracts. */
#ifndef KVS_KVS_H
#define KVS_KVS_H

#include <kvs/error.h>
#include <kvs/events.h>
#include <kvs/future.h>
#include <kvs/log.h>
#include <kvs/runtime.h>
#include <kvs/store.h>
#include <kvs/thread_pool.h>
#include <kvs/txn.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Version of the library in use, "MAJOR.MINOR.PATCH"; static. */
const char *kvs_version(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
