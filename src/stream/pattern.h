/*
 * stream/pattern.h: regular expressions of filters, found anywhere in a text.
 *
 * Characters of UTF-8; a byte that is of none counts as one. Known are
 *   . [abc] [^a-z] \d \D \w \W \s \S (of ASCII), escaped signs, \t \n \r \xHH
 *   ^ $ (of the whole text; also \A \z), alternatives |, groups ( ) and (?: )
 *   * + ? {n} {n,} {n,m}, which may be followed by ? (there is no difference when only matching)
 *   (?! ) at the very begin, behind a ^, also several: what the text may not begin with
 * Nothing else of what others know: no back references, no other looking around, no options.
 *
 * The time to match grows with the size of the text times that of the pattern, whatever they are,
 * and is counted: so who matches many texts can stop in between.
 */
#ifndef STREAM_PATTERN_H
#define STREAM_PATTERN_H

#include "base/slice.h"

#define PATTERN_SIZE_MAX 1024u
/* Repetitions written out, and all that the text may not begin with. */
#define PATTERN_STEPS_MAX 1024u

struct pattern;

/* INVALID_ARGUMENT, TOO_LARGE, NO_MEMORY. */
int pattern_new(kvs_slice text, struct pattern **ret_pattern);
void pattern_free(struct pattern *pattern); /* NULL is fine */
/* Adds the steps it took, of a few nanoseconds each: less than 3 * PATTERN_STEPS_MAX for
 * each byte. */
bool pattern_matches(const struct pattern *pattern, kvs_slice text, uint64_t *steps);

#endif
