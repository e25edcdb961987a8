/*
 * engine/control.h: what is asked of an engine as a whole, by engine_control.
 */
#ifndef ENGINE_CONTROL_H
#define ENGINE_CONTROL_H

#include "runtime/op.h"

enum engine_control_kind {
    ENGINE_CONTROL_SYNC,       /* all acknowledged writes are on the disk */
    ENGINE_CONTROL_COMPACT,    /* dead records' space has been given back */
    ENGINE_CONTROL_CHECKPOINT, /* a copy, as of some moment of the call, is in the new directory
                                  `path` */
};

struct engine_control {
    struct op op;
    enum engine_control_kind kind;
    const char *path;
    void *state[4]; /* the engine's */
};

#endif
