/* base/error.h: errno into the table of kvs/error.h, at the line of the system call. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <kvs/error.h>

/* The table's code for an errno value (positive, not 0). */
int error_from_errno(int errno_value);

#endif
