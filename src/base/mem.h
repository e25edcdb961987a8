/*
 * base/mem.h: all heap memory of the project comes from here, so that tests can fail the k-th
 * request. The functions are malloc's, and return NULL as malloc does: every caller has an answer.
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t size);
void *mem_zalloc(size_t size);
void *mem_realloc(void *memory, size_t size);
void *mem_aligned_alloc(size_t alignment, size_t size);
void *mem_copy(const void *data, size_t size); /* a copy; size 0 gives a non-NULL pointer too */
char *mem_strdup(const char *string);
void mem_free(void *memory);

/* printf into a fresh string; NULL when there is no memory. */
char *mem_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
