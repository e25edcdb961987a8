/* base/mem.c: malloc with a fault point in front of it. */
#include "base/mem.h"

#include "base/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* glibc's calloc passes by what each thread keeps of small pieces. */
#define ZEROED_BY_HAND_MAX 1024u

void *mem_alloc(size_t size)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return malloc(size > 0 ? size : 1);
}

void *mem_zalloc(size_t size)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    if (size > ZEROED_BY_HAND_MAX)
        return calloc(1, size);
    void *memory = malloc(size > 0 ? size : 1);
    if (memory != NULL)
        memset(memory, 0, size);
    return memory;
}

void *mem_realloc(void *memory, size_t size)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return realloc(memory, size > 0 ? size : 1);
}

void *mem_aligned_alloc(size_t alignment, size_t size)
{
    if (fault_hit(FAULT_ALLOC))
        return NULL;
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void *mem_copy(const void *data, size_t size)
{
    void *copy = mem_alloc(size);
    if (copy != NULL && size > 0)
        memcpy(copy, data, size);
    return copy;
}

char *mem_strdup(const char *string)
{
    return mem_copy(string, strlen(string) + 1);
}

void mem_free(void *memory)
{
    free(memory);
}

char *mem_printf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size < 0)
        return NULL;
    char *text = mem_alloc((size_t)size + 1);
    if (text == NULL)
        return NULL;
    va_start(args, format);
    vsnprintf(text, (size_t)size + 1, format, args);
    va_end(args);
    return text;
}
