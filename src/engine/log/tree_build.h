/*
 * engine/log/tree_build.h: a tree from entries that come in order: no searching, each node touched
 * once.
 *
 * Leaves are filled by runs, on any number of threads side by side, each with a tree_writer (and
 * slab) of its own; then one call puts the leaves of all runs under one root.
 */
#ifndef ENGINE_LOG_TREE_BUILD_H
#define ENGINE_LOG_TREE_BUILD_H

#include "engine/log/tree.h"

struct tree_run {
    struct tree_writer *writer; /* not undoable */
    struct pointer_vector leaves;
};

/* Appends an entry; its key is greater than the last one's. NO_MEMORY. */
int tree_run_add(struct tree_run *run, struct entry *entry);
/* No more entries: finishes the last leaf. */
void tree_run_end(struct tree_run *run);
void tree_run_deinit(struct tree_run *run); /* the nodes are their slab's */

/* The root over all leaves of the runs, whose keys grow from run to run; NULL when there are none.
 * NO_MEMORY leaves nodes behind for slab_deinit. */
int tree_runs_join(struct tree_writer *writer, struct tree_run *const *runs, size_t count,
                   struct node **ret_root);

#endif
