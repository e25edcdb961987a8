/*
 * cli/client/transfer.c: import and export.
 *
 * Import: (1) a store that has data is refused, unless it is to be merged; (2) records are read
 * into a batch until it is full; (3) the batch is sent as one atomic write while the next one
 * fills, several in flight; (4) the oldest is waited for when all are in flight. A record that
 * cannot be read stops the reading: what was read before is still written. A batch that fails stops
 * it too, and the line says which records it held. Ctrl-C stops the reading; what is in flight is
 * waited for, so that batches are stored or not, and that is known.
 * Export: (1) pages of the range are read ahead (cursor.c), of all families when none was given;
 * (2) when their keys end is asked (expiry.c); (3) they are written to a file beside the one asked
 * for; (4) that is synced and renamed over it. On a failure the file beside is removed.
 * Main thread.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client/client.h"
#include "cli/client/expiry.h"
#include "cli/client/progress.h"
#include "cli/client/record.h"
#include "engine/family.h"
#include "pd/meta_store.h"
#include "stream/block.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCHES 4                  /* in flight */
#define BATCH_BYTES (1024u * 1024) /* of keys and values, unless one record is larger */

struct batch {
    struct call call;
    bool in_flight;
    struct buf bytes; /* what the mutations point into; never grows while it holds some */
    kvs_mutation *mutations;
    uint32_t count;
    uint64_t first, last; /* numbers of its records */
};

struct importer {
    struct client *client;
    FILE *file;
    const char *name; /* of the file */
    struct record_reader reader;
    struct batch batches[BATCHES];
    size_t filling;
    uint64_t keys, bytes; /* stored */
    struct progress progress;
};

static int import_check_store(struct client *client);
static int import_records(struct importer *importer);
static int import_finish(struct importer *importer, int status);

/* "-" is standard input or output, as where there is no name. */
static bool is_named(const struct client *client)
{
    return client->operands_count > 0 && !slice_equal(client->operands[0], slice_of_string("-"));
}

static int import_init(struct importer *importer, struct client *client)
{
    *importer = (struct importer){.client = client, .file = stdin, .name = "standard input"};
    if (is_named(client)) {
        if (client_path(client, client->operands[0], &importer->name) != 0)
            return CLIENT_USAGE;
        importer->file = fopen(importer->name, "rbe");
        if (importer->file == NULL)
            return client_fail(client, "cannot open %s: %s", importer->name, strerror(errno));
    } else if (client->in_shell) {
        return client_misuse(client, "in the shell a file must be named");
    }
    record_reader_init(&importer->reader, importer->file);
    for (size_t i = 0; i < BATCHES; i++) {
        struct batch *batch = &importer->batches[i];
        call_init(&batch->call, KVS_OP_BATCH_WRITE);
        batch->mutations = mem_zalloc(client->options.batch * sizeof *batch->mutations);
        if (batch->mutations == NULL)
            return client_fail(client, "out of memory");
    }
    struct stat info;
    bool sized = fstat(fileno(importer->file), &info) == 0 && S_ISREG(info.st_mode);
    progress_init(&importer->progress, client->options.dry_run ? "check" : "import",
                  sized ? (uint64_t)info.st_size : 0, true);
    return 0;
}

static void import_deinit(struct importer *importer)
{
    for (size_t i = 0; i < BATCHES; i++) {
        if (importer->batches[i].mutations != NULL)
            call_deinit(&importer->batches[i].call);
        mem_free(importer->batches[i].mutations);
        buf_deinit(&importer->batches[i].bytes);
    }
    record_reader_deinit(&importer->reader);
    if (importer->file != NULL && importer->file != stdin)
        fclose(importer->file);
}

int command_import(void *context)
{
    struct client *client = context;
    struct importer importer;
    int status = import_init(&importer, client);
    if (status == 0 && !client->options.dry_run)
        status = client_connect(client, false);
    if (status == 0 && !client->options.dry_run && !client->options.merge)
        status = import_check_store(client);
    if (status == 0)
        status = import_finish(&importer, import_records(&importer));
    import_deinit(&importer);
    return status;
}

/* --- what a store has ------------------------------------------------------------------------- */

/* Who writes the column families: of the engines, of docs/format, of PD. */
static const struct kind {
    uint8_t last; /* family */
    bool can_merge;
    const char *name;
} kinds[] = {
    {ENGINE_FAMILY_DEFAULT, true, "keys"},
    {ENGINE_FAMILY_LOCK, true, "keys of TiKV's other column families"},
    {ENGINE_FAMILY_TXN_LOCK, false, "transactions"},
    {STREAM_FAMILY_STATE, false, "event streams"},
    {META_FAMILY - 1, false, "data of a newer version"},
    {META_FAMILY, false, "the state of a cluster"},
};

_Static_assert(META_FAMILY + 1 == RECORD_FAMILIES, "kinds has all families");

static const struct kind *kind_of(uint8_t family)
{
    const struct kind *kind = kinds;
    while (family > kind->last)
        kind++;
    return kind;
}

/* A store without the family, as one on a TiKV cluster, has nothing in it. Returns 0 or an exit
 * status after a message. */
static int family_look(struct client *client, uint8_t family, bool *ret_has_keys)
{
    struct call call;
    call_init(&call, KVS_OP_SCAN);
    call.op.family = family;
    call.op.flags = KVS_OP_FLAG_KEYS_ONLY;
    call.op.limit = 1;
    int error = call_run(client, &call);
    int status = 0;
    if (error == 0)
        *ret_has_keys = call.op.pairs_count > 0;
    else if (error == KVS_ERR_UNSUPPORTED || error == KVS_ERR_INVALID_ARGUMENT)
        *ret_has_keys = false;
    else
        status = call_tell_failure(client, &call);
    call_deinit(&call);
    return status;
}

/* Of two stores in one, keys replace keys, and transactions and event streams are left whole of
 * neither. */
static int import_check_store(struct client *client)
{
    char there[160] = "";
    size_t size = 0;
    const struct kind *named = NULL;
    for (uint8_t family = 0; family < RECORD_FAMILIES; family++) {
        bool has_keys = false;
        int status = family_look(client, family, &has_keys);
        if (status != 0)
            return status;
        if (!has_keys || kind_of(family) == named)
            continue;
        named = kind_of(family);
        int wrote =
            snprintf(there + size, sizeof there - size, "%s%s", size > 0 ? ", " : "", named->name);
        size += wrote > 0 ? (size_t)wrote : 0;
        size = size < sizeof there ? size : sizeof there - 1;
    }
    if (named == NULL)
        return 0;
    return client_fail(client,
                       "%s is not empty, it has: %s; nothing was written: import into a new "
                       "directory or a server on one, or add --merge for keys and values that "
                       "replace what is there",
                       client->url, there);
}

/* --- import ----------------------------------------------------------------------------------- */

/* Waits for a batch, if it is in flight, and empties it. */
static int batch_settle(struct importer *importer, struct batch *batch)
{
    struct client *client = importer->client;
    int status = 0;
    int error = batch->in_flight ? call_wait_to_end(&batch->call) : 0;
    if (error != 0) {
        client_fail(client, "%ss %" PRIu64 " to %" PRIu64 " of %s %s stored",
                    record_reader_noun(&importer->reader), batch->first, batch->last,
                    importer->name,
                    kvs_error_maybe_committed(error) ? "may or may not be" : "were not");
        status = call_tell_failure(client, &batch->call);
    } else {
        importer->keys += batch->count;
        importer->bytes += batch->bytes.size;
    }
    if (batch->in_flight)
        call_release_result(&batch->call);
    batch->in_flight = false;
    batch->count = 0;
    buf_clear(&batch->bytes);
    return status;
}

/* Sends the batch that was filled and turns to the next, waiting until that one is free. */
static int import_send(struct importer *importer)
{
    struct batch *batch = &importer->batches[importer->filling];
    if (!importer->client->options.dry_run) {
        batch->call.op.mutations = batch->mutations;
        batch->call.op.count = batch->count;
        call_start(importer->client, &batch->call);
        batch->in_flight = true;
    }
    importer->filling = (importer->filling + 1) % BATCHES;
    int status = batch_settle(importer, &importer->batches[importer->filling]);
    progress_update(&importer->progress, importer->reader.bytes_read, importer->keys,
                    importer->bytes);
    return status;
}

/* Copies a record into the batch that is being filled; there is room in its list. */
static int batch_add(struct batch *batch, const struct record *record, uint64_t ttl_ms)
{
    size_t size = record->key.size + record->value.size;
    if (batch->count == 0 && buf_reserve(&batch->bytes, size > BATCH_BYTES ? size : BATCH_BYTES))
        return KVS_ERR_NO_MEMORY;
    const uint8_t *at = batch->bytes.data + batch->bytes.size;
    buf_append_slice(&batch->bytes, record->key);
    buf_append_slice(&batch->bytes, record->value);
    batch->mutations[batch->count++] = (kvs_mutation){
        .kind = KVS_MUTATION_SET,
        .family = record->family,
        .key = slice_make(at, record->key.size),
        .value = slice_make(at + record->key.size, record->value.size),
        .ttl_ms = ttl_ms,
    };
    return 0;
}

/* What is left of a record's life, the command's --ttl when it says nothing. False: it is over. */
static bool ttl_of(const struct record *record, uint64_t otherwise_ms, uint64_t *ret_ttl_ms)
{
    *ret_ttl_ms = record->ttl_ms != 0 ? record->ttl_ms : otherwise_ms;
    if (record->expires_at_ms == 0)
        return true;
    uint64_t now_ms = clock_wall_ms();
    if (record->expires_at_ms <= now_ms)
        return false;
    uint64_t left_ms = record->expires_at_ms - now_ms;
    *ret_ttl_ms = left_ms < KVS_TTL_MS_MAX ? left_ms : KVS_TTL_MS_MAX;
    return true;
}

static int import_cannot_merge(struct importer *importer, uint8_t family)
{
    struct client *client = importer->client;
    progress_end(&importer->progress, false, 0, 0);
    return client_fail(client,
                       "%s %" PRIu64 " of %s: belongs to %s, which --merge does not take: they go "
                       "into an empty store%s",
                       record_reader_noun(&importer->reader), importer->reader.number,
                       importer->name, kind_of(family)->name,
                       client->options.dry_run ? "" : "; what stands before it is stored");
}

/* Reads to the end. Returns 0 or an exit status after a message; batches may be in flight. */
static int import_records(struct importer *importer)
{
    struct client *client = importer->client;
    struct record record;
    int got;
    while ((got = record_read(&importer->reader, &record)) == 1 && !client_interrupted()) {
        struct batch *batch = &importer->batches[importer->filling];
        size_t size = record.key.size + record.value.size;
        uint64_t ttl_ms;
        if (client->options.merge && !kind_of(record.family)->can_merge)
            return import_cannot_merge(importer, record.family);
        if (!ttl_of(&record, client->options.ttl_ms, &ttl_ms))
            continue;
        if (batch->count == client->options.batch ||
            (batch->count > 0 && batch->bytes.size + size > BATCH_BYTES)) {
            int status = import_send(importer);
            if (status != 0)
                return status;
            batch = &importer->batches[importer->filling];
        }
        if (batch->count == 0)
            batch->first = importer->reader.number;
        batch->last = importer->reader.number;
        if (batch_add(batch, &record, ttl_ms) != 0)
            return client_fail(client, "out of memory");
    }
    if (client_interrupted())
        return client_fail_operation(client, KVS_ERR_CANCELLED, "");
    if (got == 0)
        return 0;
    progress_end(&importer->progress, false, 0, 0);
    return client_fail(client, "%s %" PRIu64 " of %s: %s%s", record_reader_noun(&importer->reader),
                       importer->reader.number, importer->name, importer->reader.message,
                       client->options.dry_run ? "" : "; what stands before it is stored");
}

/* Sends what is left, also after a record that could not be read, and waits for all. */
static int import_finish(struct importer *importer, int status)
{
    if (importer->batches[importer->filling].count > 0 && status != CLIENT_INTERRUPTED) {
        int sent = import_send(importer);
        status = status != 0 ? status : sent;
    }
    for (size_t i = 1; i <= BATCHES; i++) {
        int settled = batch_settle(importer, &importer->batches[(importer->filling + i) % BATCHES]);
        status = status != 0 ? status : settled;
    }
    progress_end(&importer->progress, status == 0, importer->keys, importer->bytes);
    return status;
}

/* --- export ----------------------------------------------------------------------------------- */

struct exporter {
    struct client *client;
    FILE *file;
    const char *name;  /* of the file asked for; NULL: standard output */
    char *name_beside; /* where it is written first; NULL: in place */
    struct record_writer writer;
    struct expiries expiries;
    uint64_t bytes;
    struct progress progress;
};

/* Opens the file beside the one asked for; a device or pipe is written in place. */
static int export_open(struct exporter *exporter)
{
    struct client *client = exporter->client;
    struct stat info;
    exporter->file = stdout;
    if (!is_named(client))
        return 0;
    if (client_path(client, client->operands[0], &exporter->name) != 0)
        return CLIENT_USAGE;
    if (stat(exporter->name, &info) == 0 && !S_ISREG(info.st_mode)) {
        exporter->file = fopen(exporter->name, "wbe");
    } else {
        mode_t mask = umask(0);
        umask(mask);
        exporter->name_beside = mem_printf("%s.XXXXXX", exporter->name);
        int fd = exporter->name_beside != NULL ? mkstemp(exporter->name_beside) : -1;
        if (fd >= 0)
            fchmod(fd, 0666 & ~mask);
        exporter->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
        if (fd < 0) { /* nothing to remove */
            mem_free(exporter->name_beside);
            exporter->name_beside = NULL;
        }
    }
    return exporter->file != NULL
               ? 0
               : client_fail(client, "cannot make %s: %s", exporter->name, strerror(errno));
}

static int export_fail(struct exporter *exporter)
{
    if (client_interrupted()) /* it ended a write that had to wait */
        return client_fail_operation(exporter->client, KVS_ERR_CANCELLED, "");
    return client_fail(exporter->client, "cannot write %s: %s",
                       exporter->name != NULL ? exporter->name : "standard output",
                       strerror(errno));
}

/* Closes and puts the file in its place when all went well; removes it otherwise. */
static int export_close(struct exporter *exporter, int status)
{
    if (exporter->file != NULL && exporter->file != stdout) {
        if (status == 0 && exporter->name_beside != NULL && fsync(fileno(exporter->file)) != 0)
            status = export_fail(exporter);
        if (fclose(exporter->file) != 0 && status == 0)
            status = export_fail(exporter);
        if (status == 0 && exporter->name_beside != NULL &&
            rename(exporter->name_beside, exporter->name) != 0)
            status = export_fail(exporter);
        if (status != 0 && exporter->name_beside != NULL)
            unlink(exporter->name_beside);
    }
    mem_free(exporter->name_beside);
    return status;
}

/* For the bar: how many keys there will be. Not worth an error. */
static uint64_t export_total(struct exporter *exporter, const struct range *range)
{
    struct call call;
    uint64_t total = 0;
    if (!exporter->progress.shown)
        return 0;
    call_init(&call, KVS_OP_COUNT);
    call.op.key = buf_slice(&range->start);
    call.op.end_key = buf_slice(&range->end);
    if (call_run(exporter->client, &call) == 0)
        total = (uint64_t)call.op.number;
    call_deinit(&call);
    uint64_t limit = exporter->client->options.limit;
    return limit != 0 && limit < total ? limit : total;
}

static int export_page(struct exporter *exporter, uint8_t family, const kvs_pair *pairs,
                       size_t count)
{
    int status = expiries_read(&exporter->expiries, family, pairs, count);
    if (status != 0)
        return status;
    for (size_t i = 0; i < count; i++) {
        const struct record record = {.key = pairs[i].key,
                                      .value = pairs[i].value,
                                      .family = family,
                                      .expires_at_ms = exporter->expiries.ends_ms[i]};
        if (record.expires_at_ms == EXPIRY_GONE)
            continue;
        int error = record_write(&exporter->writer, &record);
        if (error == KVS_ERR_NO_MEMORY)
            return client_fail(exporter->client, "out of memory");
        if (error != 0)
            return exporter->file == stdout ? client_flush_output(exporter->client, CLIENT_FAILED)
                                            : export_fail(exporter);
        exporter->bytes += pairs[i].key.size + pairs[i].value.size;
    }
    progress_update(&exporter->progress, exporter->writer.count, exporter->writer.count,
                    exporter->bytes);
    return exporter->file == stdout ? client_flush_output(exporter->client, 0) : 0;
}

/* Takes the range. */
static int export_family(struct exporter *exporter, uint8_t family, struct range *range)
{
    struct client *client = exporter->client;
    struct cursor cursor;
    const kvs_pair *pairs;
    size_t count;
    int status;
    cursor_init(&cursor, client, range, family, 0, client->options.limit);
    while ((status = cursor_next(&cursor, &pairs, &count)) == 0 && count > 0)
        if ((status = export_page(exporter, family, pairs, count)) != 0)
            break;
    cursor_deinit(&cursor);
    return status;
}

/* All that the store has. A range, also one of all keys as --prefix '', is of keys and values. */
static bool export_is_whole(const struct client_options *options)
{
    return options->prefix.data == NULL && options->start.data == NULL &&
           options->end.data == NULL && options->limit == 0;
}

static int export_range(struct exporter *exporter, struct range *range)
{
    struct client *client = exporter->client;
    bool raw = client->options.format == CLIENT_FORMAT_RAW;
    /* The bar must not mix with records on the same terminal. */
    progress_init(&exporter->progress, "export", 0,
                  exporter->name != NULL || !isatty(STDOUT_FILENO));
    exporter->progress.total = export_total(exporter, range);
    if (record_writer_init(&exporter->writer, exporter->file, raw) != 0)
        return export_fail(exporter);
    bool everything = export_is_whole(&client->options);
    expiries_init(&exporter->expiries, client);
    int status = export_family(exporter, 0, range);
    for (uint8_t family = 1; family < RECORD_FAMILIES && everything && status == 0; family++) {
        bool has_keys = false;
        status = family_look(client, family, &has_keys);
        if (has_keys)
            status = export_family(exporter, family, range);
    }
    expiries_deinit(&exporter->expiries);
    if (status == 0 && record_writer_finish(&exporter->writer) != 0)
        status = exporter->file == stdout ? client_flush_output(client, 0) : export_fail(exporter);
    progress_end(&exporter->progress, status == 0, exporter->writer.count, exporter->bytes);
    record_writer_deinit(&exporter->writer);
    return status;
}

int command_export(void *context)
{
    struct client *client = context;
    struct exporter exporter = {.client = client};
    struct range range;
    if (!is_named(client) && client->options.format == CLIENT_FORMAT_RAW && isatty(STDOUT_FILENO))
        return client_misuse(client, "raw records are not for a terminal: name a file");
    int status = range_from_options(client, &range);
    if (status != 0)
        return status;
    status = client_connect(client, true);
    if (status == 0)
        status = export_open(&exporter);
    if (status == 0)
        status = export_range(&exporter, &range);
    status = export_close(&exporter, status);
    range_deinit(&range);
    return status;
}
