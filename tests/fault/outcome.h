/* tests/fault/outcome.h: what became of a call of libkvs while something fails. */
#ifndef TESTS_FAULT_OUTCOME_H
#define TESTS_FAULT_OUTCOME_H

#include <kvs/kvs.h>

#include "test.h"

/* Waits for a result that may be an error, which then says what it is; NULL: there was no memory
 * for the future. */
static inline int outcome(kvs_future *future)
{
    if (future == NULL)
        return KVS_ERR_NO_MEMORY;
    int error = kvs_future_wait(future, -1);
    if (error != 0)
        assert_non_null(kvs_future_error_message(future));
    kvs_future_free(future);
    return error;
}

#endif
