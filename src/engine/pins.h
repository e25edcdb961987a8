/*
 * engine/pins.h: an engine's memory that results point into after their view has ended.
 *
 * A scan or a get with pins may give keys and values that live until the pins are released, so that
 * nothing need be copied. What is pinned is whole blocks of the engine's memory, each counted: a
 * block that the engine has no more use for stays until the last pin is gone, also when the engine
 * is closed by then. For scans blocks are few and large (a segment of the log), and there is room
 * for a bounded number: what lies in a further one is given as without pins.
 *
 * Threads: pins have one owner at a time; they are released on any thread.
 */
#ifndef ENGINE_PINS_H
#define ENGINE_PINS_H

#include <stdbool.h>
#include <stddef.h>

#define ENGINE_PINS_MAX 128u /* a power of two */

struct engine_pins {
    /* Set by the engine before each call of an engine_scan_fn: key and value live until
     * engine_pins_release, not only as long as the call. */
    bool lasting;
    void (*unpin)(void *block);
    void *blocks[ENGINE_PINS_MAX]; /* by hash; NULL: free */
};

static inline void engine_pins_init(struct engine_pins *pins)
{
    *pins = (struct engine_pins){0};
}

/* Of a get: one block. */
struct engine_pin {
    void (*unpin)(void *block); /* NULL: nothing is pinned */
    void *block;
};

static inline void engine_pin_release(struct engine_pin *pin)
{
    if (pin->unpin != NULL)
        pin->unpin(pin->block);
    *pin = (struct engine_pin){0};
}

/* Gives all blocks back. */
static inline void engine_pins_release(struct engine_pins *pins)
{
    for (unsigned i = 0; i < ENGINE_PINS_MAX; i++) {
        if (pins->blocks[i] != NULL)
            pins->unpin(pins->blocks[i]);
    }
    engine_pins_init(pins);
}

#endif
