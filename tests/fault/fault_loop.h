/* tests/fault/fault_loop.h: fails every k-th hit of every kind, on one engine; see script.h. */
#ifndef TESTS_FAULT_FAULT_LOOP_H
#define TESTS_FAULT_FAULT_LOOP_H

#include "contract/engine_fixture.h"

/* The exit status of a test program. */
int fault_loop_main(const struct engine_kind *kind);

#endif
