/*
 * base/machine.h: what this process may use of the machine it runs on.
 */
#ifndef BASE_MACHINE_H
#define BASE_MACHINE_H

#include <stdint.h>

/* Bytes of memory: the machine's, or less where a control group (a container) sets a limit. Reads
 * files of the system: for the start of a program. Any thread. */
uint64_t machine_memory_bytes(void);

/* Processors that the calling thread may run on, at least 1. Any thread. */
unsigned machine_processors(void);

#endif
