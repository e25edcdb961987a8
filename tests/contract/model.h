/*
 * tests/contract/model.h: random operations on the memory engine, which is obviously right, and on
 * another engine side by side; every answer is compared.
 *
 * A run is made of episodes. An episode starts on a fresh directory with a seed, which decides all
 * that it does: keys from a small set, so that everything collides; batches with conditions,
 * chains, scans, views and snapshots that are held while writes go on, compaction, reopening, and
 * opening a copy of the files taken without closing, as after a killed process.
 *
 *   test_model_log [--seed N] [--seconds N] [--episodes N]
 *
 * A failure prints its episode's seed; --seed runs just that episode again.
 */
#ifndef TESTS_CONTRACT_MODEL_H
#define TESTS_CONTRACT_MODEL_H

#include "contract/engine_fixture.h"

/* The exit status of a test program. */
int model_main(const struct engine_kind *kind, int argc, char **argv);

#endif
