/*
 * cli/client/record.h: keys and values in a file: the two formats of export, and reading either.
 *
 * JSON lines   {"key":"a","value":"b"}; "key64", "value64": base64; "family": when it is not 0;
 *              "expires": milliseconds since 1970, of keys that end; reading also takes
 *              "ttl": seconds from now
 * raw          "kvs-export 2\n", then {u32 key size, u32 value size, u32 family, u64 end of life in
 *              milliseconds since 1970 or 0, key, value}..., at the end {u32 0, u32 0, u64 number
 *              of keys}; integers little-endian. Reading also takes "kvs-export 1\n", of which the
 *              records have no family and no end of life
 * Every size read is bounded before memory is asked for; a raw file without its end is an error.
 */
#ifndef CLI_CLIENT_RECORD_H
#define CLI_CLIENT_RECORD_H

#include "base/buf.h"

#include <stdio.h>

struct record {
    kvs_slice key, value;   /* read: valid until the next read */
    uint8_t family;         /* below RECORD_FAMILIES */
    uint64_t expires_at_ms; /* 0: never, or not said */
    uint64_t ttl_ms;        /* read only: from now; 0: not said */
};

#define RECORD_FAMILIES 16u

struct record_writer {
    FILE *file;
    bool raw;
    uint64_t count;
    struct buf line;
};

/* Return 0 or an error of the table (IO: errno tells). */
int record_writer_init(struct record_writer *writer, FILE *file, bool raw);
int record_write(struct record_writer *writer, const struct record *record);
int record_writer_finish(struct record_writer *writer);
void record_writer_deinit(struct record_writer *writer);

struct record_reader {
    FILE *file;
    bool begun, raw;
    bool short_records;  /* of "kvs-export 1" */
    uint64_t number;     /* of the line or record read last, from 1 */
    uint64_t count;      /* records */
    uint64_t bytes_read; /* of the file */
    struct buf line, key, value;
    char message[200]; /* after an error: what is wrong, for a person */
};

void record_reader_init(struct record_reader *reader, FILE *file);
/* 1: a record; 0: the end; else an error with the message set. */
int record_read(struct record_reader *reader, struct record *ret_record);
/* "line" or "record": what `number` counts. */
const char *record_reader_noun(const struct record_reader *reader);
void record_reader_deinit(struct record_reader *reader);

#endif
