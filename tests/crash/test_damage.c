/*
 * tests/crash/test_damage.c: every byte of every file of a log store is another, one after the
 * other, in several ways; and every file ends at every length.
 *
 * The store is small: some segments of a dozen records of every kind. Of each spoilt copy of it:
 *   - opening gives all that was there, or CORRUPTION with segment and offset, and then changes
 *     nothing; of a store that was killed, and of a newest file that ends early, also what was
 *     there before the last write or before the end, which no bytes are left to vouch for;
 *   - --verify tells of damage exactly when opening does, and names the file;
 *   - where a hint spares reading a segment, opening may give what was there but for the spoilt
 *     record, and reading that is CORRUPTION; a spoilt hint changes nothing;
 *   - --repair saves all but what the spoilt record said: the key of a set has an older value or
 *     none, a removed one may be back.
 * And under an open store whose values are not in memory: reads are right or CORRUPTION, of the
 * spoilt record only, and compaction loses nothing.
 *
 * KVS_TEST_SECONDS=N: all 255 other values of each byte, as far as they come in that time.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "contract/contract.h"
#include "crash/directory_files.h"
#include "engine/log/check.h"
#include "engine/log/hint.h"
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), 0)

#define KEYS 9
#define BATCHES 16
#define VALUE_SIZE_MAX 300
#define KEY_TEXT 8
#define PATH_SIZE 200
#define REPAIR_EVERY 5         /* of the cases */
#define STRIDE TIMES(1, 7, 29) /* drifts over the fields */

static const struct engine_kind kind = {.name = "damage",
                                        .directory = "kvs",
                                        .open = log_engine_open_blocking,
                                        .segment_size_bytes = 64 * 1024,
                                        .cache_size_bytes = 1};

/* --- a store ----------------------------------------------------------------------------------*/

static unsigned expected[BATCHES + 1][KEYS]; /* number of the value after each batch; 0: none */

static unsigned family_of(unsigned key)
{
    return key < 6 ? 0 : ENGINE_FAMILY_LOCK;
}

static kvs_slice key_of(char text[KEY_TEXT], unsigned key)
{
    snprintf(text, KEY_TEXT, "key %c", 'a' + (int)(key % 26));
    return slice_of_string(text);
}

static kvs_slice value_of(uint8_t bytes[VALUE_SIZE_MAX], unsigned number)
{
    size_t size = number % 11 == 5 ? VALUE_SIZE_MAX : number * 7 % 40;
    bytes_fill(bytes, size, number);
    return slice_make(bytes, size);
}

/* Batch 1 .. BATCHES, always the same. */
static void batch_write(struct fixture *fixture, unsigned batch)
{
    kvs_mutation mutations[3];
    char texts[3][2][KEY_TEXT];
    uint8_t values[3][VALUE_SIZE_MAX];
    uint32_t count = 1 + batch % 3;
    memcpy(expected[batch], expected[batch - 1], sizeof expected[0]);
    for (unsigned i = 0; i < count; i++) {
        unsigned key = (batch * 5 + i * 2) % KEYS;
        unsigned number = batch * 3 + i;
        kvs_slice name = key_of(texts[i][0], key);
        mutations[i] = mutation_set(name, value_of(values[i], number));
        mutations[i].ttl_ms = number % 7 == 0 ? KVS_TTL_MS_MAX : 0;
        expected[batch][key] = number;
        if (batch % 5 == 4 && i == 0) {
            mutations[i] = mutation_remove(name);
            expected[batch][key] = 0;
        }
        if (batch == 9 && i == 0) { /* keys 2 and 3 */
            mutations[i] = mutation_remove_range(key_of(texts[i][0], 2), key_of(texts[i][1], 4));
            key = 2;
            expected[batch][2] = expected[batch][3] = 0;
            expected[batch][(batch * 5) % KEYS] = expected[batch - 1][(batch * 5) % KEYS];
        }
        mutations[i].family = (uint8_t)family_of(key);
    }
    OK(batch_wait(fixture, mutations, count));
}

static bool is_segment(const struct file *file)
{
    return strstr(file->name, ".seg") != NULL;
}

static bool is_newest(const struct files *files, const struct file *file)
{
    for (unsigned i = 0; i < files->count; i++) {
        if (is_segment(&files->list[i]) && strcmp(files->list[i].name, file->name) > 0)
            return false;
    }
    return is_segment(file);
}

static bool is_hint(const struct file *file)
{
    return strstr(file->name, ".hint") != NULL;
}

static void hints_drop(struct files *files)
{
    unsigned count = 0;
    for (unsigned i = 0; i < files->count; i++) {
        if (is_hint(&files->list[i]))
            free(files->list[i].bytes);
        else
            files->list[count++] = files->list[i];
    }
    files->count = count;
}

/* The hint of each segment but the newest, as the store makes them in time. */
static void hints_add(struct files *files)
{
    const unsigned count = files->count;
    for (unsigned i = 0; i < count; i++) {
        const struct file *segment = &files->list[i];
        if (!is_segment(segment) || is_newest(files, segment))
            continue;
        struct hint hint;
        uint32_t number = (uint32_t)strtoul(segment->name, NULL, 10);
        OK(hint_build(slice_make(segment->bytes, segment->size), number, &hint));
        assert_true(files->count < FILES_MAX);
        struct file *file = &files->list[files->count++];
        hint_name_format(number, false, file->name);
        file->size = hint.bytes.size;
        file->bytes = malloc(file->size);
        assert_non_null(file->bytes);
        memcpy(file->bytes, hint.bytes.data, file->size);
        hint_deinit(&hint);
    }
}

/* Backups begin a new segment. */
static void store_make(struct fixture *fixture, struct files *files, bool closed, bool hinted)
{
    OK(fixture_init(fixture, &kind));
    OK(fixture_open(fixture));
    for (unsigned batch = 1; batch <= BATCHES; batch++) {
        batch_write(fixture, batch);
        if (batch % 4 == 0 && batch < BATCHES) {
            char path[PATH_SIZE];
            snprintf(path, sizeof path, "%s/backup%u", fixture->root, batch);
            OK(control_wait(fixture, ENGINE_CONTROL_CHECKPOINT, path));
        }
    }
    if (closed)
        OK(fixture_close(fixture));
    files_read(fixture->directory, files);
    if (!closed)
        OK(fixture_close(fixture));
    directory_remove(fixture->directory);
    hints_drop(files); /* those that were made by then */
    if (hinted)
        hints_add(files);
}

/* How many keys are not as after the batch; marked in `ret_differ`. Any value that was never
 * written to the key, and any error, is wrong. */
static unsigned store_differs(struct fixture *fixture, unsigned batch, bool ret_differ[KEYS],
                              bool ret_corrupt[KEYS])
{
    unsigned differ = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        char text[KEY_TEXT];
        uint8_t bytes[VALUE_SIZE_MAX];
        struct buf value;
        int error = get_copy(fixture, family_of(key), key_of(text, key), &value);
        ret_corrupt[key] = error == KVS_ERR_CORRUPTION;
        unsigned number = 0;
        for (unsigned b = 1; b <= BATCHES && error == 0; b++) {
            unsigned candidate = expected[b][key];
            if (candidate != 0 && slice_equal(buf_slice(&value), value_of(bytes, candidate)))
                number = candidate;
        }
        if (error == 0 ? number == 0 : error != KVS_ERR_NOT_FOUND && !ret_corrupt[key])
            fail_msg("%s: %s, and a value of %zu bytes that nobody wrote", text,
                     kvs_error_name(error), value.size);
        ret_differ[key] = number != expected[batch][key];
        differ += ret_differ[key];
        buf_deinit(&value);
    }
    return differ;
}

/* The batch that is the last; -1: no batch leaves this. */
static int store_last(struct fixture *fixture)
{
    bool differ[KEYS];
    bool corrupt[KEYS];
    for (int batch = BATCHES; batch >= 0; batch--) {
        if (store_differs(fixture, (unsigned)batch, differ, corrupt) == 0)
            return batch;
    }
    return -1;
}

/* --- what lies where --------------------------------------------------------------------------*/

/* The record that the byte belongs to; false: the header, or behind the end. */
static bool record_at(const struct file *file, size_t offset, struct record *ret_record,
                      size_t *ret_begin, size_t *ret_size)
{
    uint32_t segment = (uint32_t)strtoul(file->name, NULL, 10);
    size_t at = SEGMENT_HEADER_SIZE;
    size_t size;
    while (at < file->size && (size = record_decode(slice_make(file->bytes + at, file->size - at),
                                                    segment, ret_record)) > 0) {
        if (offset >= at && offset < at + size) {
            *ret_begin = at;
            *ret_size = size;
            return true;
        }
        at += size;
    }
    return false;
}

static size_t data_end(const struct file *file)
{
    size_t size = file->size;
    while (size > 0 && file->bytes[size - 1] == 0)
        size--;
    return size + 16 < file->size ? size + 16 : file->size; /* and some zeros */
}

/* --- one case ---------------------------------------------------------------------------------*/

struct report {
    struct log_check check;
    char lines[2000];
};

static void report_line(struct log_check *check, const char *line)
{
    struct report *report = CONTAINER_OF(check, struct report, check);
    size_t used = strlen(report->lines);
    snprintf(report->lines + used, sizeof report->lines - used, "%s\n", line);
}

struct damage {
    struct fixture fixture;
    struct files files; /* the last case's file is spoilt */
    bool closed;
    bool hinted;
    struct file *file;
    size_t offset;
    struct record record; /* that was hit */
    size_t begin, size;
    bool is_record;
    unsigned cases, reported, saved;
};

/* The keys that a repair cannot know, because the record is lost that told of them. */
static bool may_differ(const struct damage *damage, unsigned key)
{
    const struct record *record = &damage->record;
    char text[KEY_TEXT];
    if (!damage->is_record || record->family != family_of(key))
        return false;
    kvs_slice name = key_of(text, key);
    if (record->kind == RECORD_REMOVE_RANGE)
        return slice_compare(record->key, name) <= 0 && slice_compare(name, record->value) < 0;
    return slice_equal(record->key, name);
}

static void check_repair(struct damage *damage)
{
    struct fixture *fixture = &damage->fixture;
    char path[PATH_SIZE];
    bool differ[KEYS];
    bool corrupt[KEYS];
    struct report report = {.check.say = report_line};
    snprintf(path, sizeof path, "%s/saved", fixture->root);
    directory_remove(path);
    OK(log_check_blocking(&report.check, fixture->directory, path, fixture->pool,
                          &fixture->message));
    assert_same_files(fixture->directory, &damage->files);
    const char *own = fixture->options.directory;
    fixture->options.directory = path;
    OK(fixture_open(fixture));
    store_differs(fixture, BATCHES, differ, corrupt);
    for (unsigned key = 0; key < KEYS; key++) {
        if (corrupt[key] || (differ[key] && !may_differ(damage, key)))
            fail_msg("%s, offset %zu: key %u is lost to the repair:\n%s", damage->file->name,
                     damage->offset, key, report.lines);
    }
    OK(fixture_close(fixture));
    fixture->options.directory = own;
    damage->saved++;
}

/* The report names the file, and of a record exactly the bytes that are lost. */
static void check_report(const struct damage *damage, const struct report *report)
{
    char place[96];
    snprintf(place, sizeof place, "damage: %s, offset %zu to %zu ", damage->file->name,
             damage->begin, damage->begin + damage->size);
    if (strstr(report->lines, is_segment(damage->file) ? damage->file->name : "KVS") == NULL ||
        (damage->is_record && damage->record.kind != RECORD_SEAL &&
         strstr(report->lines, place) == NULL))
        fail_msg("%s, offset %zu: the report does not tell:\n%s", damage->file->name,
                 damage->offset, report->lines);
}

/* An error names the place, and nothing was changed. */
static void check_refused(struct damage *damage, int error)
{
    struct fixture *fixture = &damage->fixture;
    fixture->engine = NULL;
    char number[32];
    snprintf(number, sizeof number, "segment %lu ", strtoul(damage->file->name, NULL, 10));
    bool named = is_segment(damage->file) ? strstr(fixture->message.text, number) != NULL &&
                                                strstr(fixture->message.text, "offset") != NULL
                                          : fixture->message.text[0] != '\0';
    bool right =
        error == KVS_ERR_CORRUPTION || (!is_segment(damage->file) && error == KVS_ERR_WRONG_ENGINE);
    if (!right || !named)
        fail_msg("%s, offset %zu: %s: %s", damage->file->name, damage->offset,
                 kvs_error_name(error), fixture->message.text);
    assert_same_files(fixture->directory, &damage->files);
    damage->reported++;
}

/* Of a store with hints: what is lost is told by --verify and when it is read. */
static void check_hinted(struct damage *damage, int error, bool told, const struct report *report)
{
    struct fixture *fixture = &damage->fixture;
    bool differ[KEYS];
    bool corrupt[KEYS];
    unsigned lost = error != 0;
    if (error != 0) {
        check_refused(damage, error);
    } else {
        store_differs(fixture, BATCHES, differ, corrupt);
        for (unsigned key = 0; key < KEYS; key++) {
            if (differ[key] && !(corrupt[key] && may_differ(damage, key)))
                fail_msg("%s, offset %zu: key %u is %s", damage->file->name, damage->offset, key,
                         corrupt[key] ? "damaged, too" : "another or gone");
            lost += corrupt[key];
        }
        OK(fixture_close(fixture));
        damage->reported += told || is_hint(damage->file);
    }
    bool spared = is_segment(damage->file) && !is_newest(&damage->files, damage->file);
    bool noted = strstr(report->lines, damage->file->name) != NULL;
    if ((lost > 0 && !told) || (lost == 0 && told && !spared) ||
        (is_hint(damage->file) && (told || !noted)))
        fail_msg("%s, offset %zu: open says %s, %u are lost, and --verify:\n%s", damage->file->name,
                 damage->offset, kvs_error_name(error), lost, report->lines);
    damage->cases++;
}

/* Spoilt by now in memory. `least`: batches that have to be there when it opens. */
static void check_case(struct damage *damage, unsigned least, bool repair)
{
    struct fixture *fixture = &damage->fixture;
    struct report report = {.check.say = report_line};
    directory_remove(fixture->directory);
    files_write(fixture->directory, &damage->files);
    int checked = log_check_blocking(&report.check, fixture->directory, NULL, fixture->pool,
                                     &fixture->message);
    bool told = checked != 0 || report.check.damages > 0;
    if (told && checked == 0)
        check_report(damage, &report);
    if (repair && checked == 0)
        check_repair(damage);
    int error = fixture_open(fixture);
    if (damage->hinted) {
        check_hinted(damage, error, told, &report);
        return;
    }
    if (error != 0) {
        check_refused(damage, error);
    } else {
        int last = store_last(fixture);
        if (last < (int)least)
            fail_msg("%s, offset %zu: batch %d is the last, and no word of it: %s",
                     damage->file->name, damage->offset, last, fixture->message.text);
        OK(fixture_close(fixture));
    }
    if ((error != 0) != told)
        fail_msg("%s, offset %zu: open says %s, and --verify:\n%s", damage->file->name,
                 damage->offset, kvs_error_name(error), report.lines);
    damage->cases++;
}

static void damage_init(struct damage *damage, bool closed, bool hinted)
{
    *damage = (struct damage){.closed = closed, .hinted = hinted};
    store_make(&damage->fixture, &damage->files, closed, hinted);
}

static void damage_deinit(struct damage *damage)
{
    files_free(&damage->files);
    fixture_deinit(&damage->fixture);
}

static void damage_aim(struct damage *damage, struct file *file, size_t offset)
{
    damage->file = file;
    damage->offset = offset;
    damage->begin = damage->size = 0;
    damage->is_record =
        is_segment(file) && record_at(file, offset, &damage->record, &damage->begin, &damage->size);
}

/* --- bytes ------------------------------------------------------------------------------------*/

static void flip_byte(struct damage *damage, uint8_t value)
{
    uint8_t *byte = &damage->file->bytes[damage->offset];
    uint8_t original = *byte;
    if (value == original)
        return;
    /* What record was it, and what did it say? The slices point into the file. */
    uint8_t *copy = malloc(damage->file->size);
    assert_non_null(copy);
    memcpy(copy, damage->file->bytes, damage->file->size);
    struct file whole = *damage->file;
    whole.bytes = copy;
    damage->is_record = is_segment(&whole) && record_at(&whole, damage->offset, &damage->record,
                                                        &damage->begin, &damage->size);
    *byte = value;
    bool newest = is_newest(&damage->files, damage->file);
    check_case(damage, damage->closed || !newest ? BATCHES : BATCHES - 1,
               damage->closed && damage->cases % REPAIR_EVERY == 0);
    *byte = original;
    free(copy);
}

struct variant {
    bool closed;
    bool hinted;
};

static void test_every_byte(void **state)
{
    struct damage damage;
    const char *seconds = getenv("KVS_TEST_SECONDS");
    uint64_t start_ms = clock_now_ms();
    uint64_t end_ms = start_ms + 1000 * (seconds != NULL ? strtoull(seconds, NULL, 0) : 0);
    uint64_t bytes = 0;
    const struct variant *variant = *state;
    damage_init(&damage, variant->closed, variant->hinted);
    for (unsigned i = 0; i < damage.files.count; i++) {
        struct file *file = &damage.files.list[i];
        size_t end = damage.closed ? file->size : data_end(file);
        /* Without hints each byte of a segment has its turn. */
        size_t stride = damage.hinted && is_segment(file) ? 5 * STRIDE : STRIDE;
        bytes += (end + stride - 1) / stride;
        for (size_t at = 0; at < end; at += stride) {
            damage_aim(&damage, file, at);
            uint8_t byte = file->bytes[at];
            flip_byte(&damage, byte ^ (uint8_t)(1u << (at % 8)));
            if (damage.closed && !damage.hinted)
                flip_byte(&damage, (uint8_t)~byte);
            for (unsigned other = 0; other < 256 && clock_now_ms() < end_ms; other++)
                flip_byte(&damage, (uint8_t)other);
        }
    }
    printf("# %llu bytes, %u damages in %llu ms: %u reported, the others hit nothing; %u repairs\n",
           (unsigned long long)bytes, damage.cases, (unsigned long long)(clock_now_ms() - start_ms),
           damage.reported, damage.saved);
    assert_true(damage.reported > damage.cases / 2);
    damage_deinit(&damage);
}

/* --- ends -------------------------------------------------------------------------------------*/

/* Batches that are whole in the first `size` bytes of the newest file, after those before it. */
static unsigned batches_within(const struct file *file, size_t size)
{
    unsigned batches = BATCHES / 4 * 4 - 4;
    size_t at = SEGMENT_HEADER_SIZE;
    struct record record;
    size_t begin;
    size_t record_bytes;
    while (record_at(file, at, &record, &begin, &record_bytes) && begin + record_bytes <= size) {
        batches += !record.more && record.kind <= RECORD_REMOVE_RANGE;
        at += record_bytes;
    }
    return batches;
}

static void test_every_end(void **state)
{
    struct damage damage;
    (void)state;
    damage_init(&damage, true, false);
    for (unsigned i = 0; i < damage.files.count; i++) {
        struct file *file = &damage.files.list[i];
        size_t size = file->size;
        for (size_t at = 0; at < size; at += STRIDE) {
            unsigned least = is_newest(&damage.files, file) ? batches_within(file, at) : BATCHES;
            damage_aim(&damage, file, at);
            damage.is_record = false; /* more than one is lost */
            file->size = at;
            check_case(&damage, least, false);
            file->size = size;
        }
    }
    printf("# %u ends, %u reported\n", damage.cases, damage.reported);
    assert_true(damage.reported > damage.cases / 2);
    damage_deinit(&damage);
}

/* --- an open store ----------------------------------------------------------------------------*/

static void byte_put(const struct damage *damage, uint8_t value)
{
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%.150s/%s", damage->fixture.directory, damage->file->name);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, &value, 1, (off_t)damage->offset), 1);
    close(fd);
}

/* Reads give what was there, or say that it is damaged; that only of the spoilt record. */
static unsigned check_reads(struct damage *damage)
{
    bool differ[KEYS];
    bool corrupt[KEYS];
    unsigned reported = 0;
    store_differs(&damage->fixture, BATCHES, differ, corrupt);
    for (unsigned key = 0; key < KEYS; key++) {
        if (differ[key] && !(corrupt[key] && may_differ(damage, key)))
            fail_msg("%s, offset %zu: key %u is %s", damage->file->name, damage->offset, key,
                     corrupt[key] ? "damaged, too" : "another or gone");
        reported += corrupt[key];
    }
    return reported;
}

/* The operator reads in the log where it is. */
static void check_log(struct damage *damage)
{
    char path[PATH_SIZE];
    char text[1000] = "";
    char place[64];
    snprintf(path, sizeof path, "%s/log", damage->fixture.root);
    int own = dup(STDERR_FILENO);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
    assert_true(own >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    log_set_level(LOG_ERROR);
    unsigned reported = check_reads(damage);
    log_set_level(LOG_SILENT);
    dup2(own, STDERR_FILENO);
    close(own);
    ssize_t size = pread(fd, text, sizeof text - 1, 0);
    close(fd);
    snprintf(place, sizeof place, "segment %lu cannot be read at offset %zu (data is damaged)",
             strtoul(damage->file->name, NULL, 10), damage->begin);
    if (reported > 0 && (size <= 0 || strstr(text, place) == NULL))
        fail_msg("the log does not tell \"%s\": %s", place, text);
}

static void test_under_an_open_store(void **state)
{
    struct damage damage;
    (void)state;
    damage_init(&damage, true, false);
    struct fixture *fixture = &damage.fixture;
    files_write(fixture->directory, &damage.files);
    OK(fixture_open(fixture));
    for (unsigned i = 0; i < damage.files.count; i++) {
        struct file *file = &damage.files.list[i];
        if (!is_segment(file) || is_newest(&damage.files, file))
            continue; /* the newest is in memory */
        for (size_t at = 0; at < file->size; at++) {
            damage_aim(&damage, file, at);
            byte_put(&damage, (uint8_t)~file->bytes[at]);
            if (damage.reported == 0) /* then nothing was logged yet */
                check_log(&damage);
            damage.reported += check_reads(&damage);
            byte_put(&damage, file->bytes[at]);
            damage.cases++;
        }
    }
    assert_int_equal(store_last(fixture), BATCHES);
    OK(fixture_close(fixture));
    printf("# %u bytes, %u reads reported\n", damage.cases, damage.reported);
    assert_true(damage.reported > 20);
    damage_deinit(&damage);
}

/* Compaction meets the spoilt record: nothing of it goes on as if it were well, and nothing that
 * the store had is gone without a word. */
static void test_compaction(void **state)
{
    struct damage damage;
    (void)state;
    damage_init(&damage, true, false);
    struct fixture *fixture = &damage.fixture;
    for (unsigned i = 0; i < damage.files.count; i++) {
        struct file *file = &damage.files.list[i];
        for (size_t at = SEGMENT_HEADER_SIZE; is_segment(file) && at < file->size;
             at += 8 * STRIDE) {
            if (is_newest(&damage.files, file))
                break;
            damage_aim(&damage, file, at);
            directory_remove(fixture->directory);
            files_write(fixture->directory, &damage.files);
            OK(fixture_open(fixture));
            byte_put(&damage, (uint8_t)~file->bytes[at]);
            int error = control_wait(fixture, ENGINE_CONTROL_COMPACT, NULL);
            check_reads(&damage);
            damage.reported += error != 0;
            if (error != 0 && error != KVS_ERR_CORRUPTION)
                fail_msg("compaction: %s", kvs_error_name(error));
            (void)fixture_close(fixture);
            error = fixture_open(fixture);
            if (error == 0) {
                check_reads(&damage);
                OK(fixture_close(fixture));
            } else {
                assert_int_equal(error, KVS_ERR_CORRUPTION);
                fixture->engine = NULL;
            }
            damage.cases++;
        }
    }
    printf("# %u damages, %u compactions reported them\n", damage.cases, damage.reported);
    assert_true(damage.reported > 0);
    damage_deinit(&damage);
}

int main(void)
{
    static struct variant closed = {.closed = true};
    static struct variant killed = {.closed = false};
    static struct variant hinted = {.closed = true, .hinted = true};
    const struct CMUnitTest tests[] = {
        {"every byte of a closed store", test_every_byte, NULL, NULL, &closed},
        {"every byte of a killed store", test_every_byte, NULL, NULL, &killed},
        {"every byte of a store with hints", test_every_byte, NULL, NULL, &hinted},
        cmocka_unit_test(test_every_end),
        cmocka_unit_test(test_under_an_open_store),
        cmocka_unit_test(test_compaction),
    };
    fixtures_in_memory();
    log_set_level(LOG_SILENT);
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
