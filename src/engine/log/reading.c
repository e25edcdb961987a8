/* engine/log/reading.c: see reading.h. */
#include "engine/log/reading.h"

#include "base/log.h"
#include "base/mem.h"
#include "engine/file.h"

/* --- views ------------------------------------------------------------------------------------ */

int log_view_begin(struct engine *engine, const struct engine_snapshot *snapshot,
                   struct engine_view *view)
{
    struct log_engine *log = log_of(engine);
    struct log_view *mine = view_of(view);
    mine->buffers = NULL;
    mine->wall_ms = 0;
    mine->epoch_slot = epoch_enter(&log->epoch);
    mine->version = atomic_load_explicit(&log->version, memory_order_seq_cst);
    if (snapshot != NULL && mine->version != NULL)
        mine->version = &snapshot->version;
    return 0;
}

static void buffers_free(struct log_view *view)
{
    while (view->buffers != NULL) {
        struct read_buffer *next = view->buffers->next;
        mem_free(view->buffers);
        view->buffers = next;
    }
}

void log_view_end(struct engine_view *view)
{
    struct log_view *mine = view_of(view);
    buffers_free(mine);
    epoch_leave(&log_of(view->engine)->epoch, (unsigned)mine->epoch_slot);
}

/* --- reading ---------------------------------------------------------------------------------- */

#define DAMAGE_TELL_MS 1000

/* For the operator, since a reader is told only that it is damaged; once a second, because readers
 * will come again. */
static void damage_tell(struct log_engine *log, const struct segment *segment, uint32_t offset,
                        int error)
{
    uint64_t now = clock_now_ms();
    uint64_t told = atomic_load_explicit(&log->damage_told_ms, memory_order_relaxed);
    if ((told == 0 || now - told >= DAMAGE_TELL_MS) &&
        atomic_compare_exchange_strong_explicit(&log->damage_told_ms, &told, now,
                                                memory_order_relaxed, memory_order_relaxed))
        log_error("%s: segment %u cannot be read at offset %u (%s)", log->directory,
                  segment->number, offset, kvs_error_text(error));
}

static bool was_fetched(const struct engine_view *view, const struct segment *segment,
                        uint32_t offset, uint32_t size)
{
    const struct engine_fetch *fetch = &view->fetch;
    return fetch->data != NULL && fetch->fd == segment->fd && fetch->offset == offset &&
           fetch->size == size;
}

/* As segment_read_record, of what was fetched. */
static int record_take(const struct engine_view *view, const struct segment *segment, uint32_t size,
                       uint8_t *buffer, struct record *ret_record)
{
    memcpy(buffer, view->fetch.data, size);
    if (record_decode(slice_make(buffer, size), segment->number, ret_record) != size)
        return KVS_ERR_CORRUPTION;
    return 0;
}

int value_from_file(struct engine_view *view, const struct segment *segment, uint32_t offset,
                    const struct entry *entry, kvs_slice *ret_value)
{
    struct log_view *mine = view_of(view);
    uint32_t size = entry_record_size(entry);
    struct read_buffer *buffer = mem_alloc(sizeof *buffer + size);
    if (buffer == NULL)
        return KVS_ERR_NO_MEMORY;
    struct record record;
    int error =
        was_fetched(view, segment, offset, size)
            ? record_take(view, segment, size, buffer->bytes, &record)
            : segment_read_record(segment, offset, size, view->may_block, buffer->bytes, &record);
    if (error == ENGINE_WOULD_BLOCK)
        view->fetch = (struct engine_fetch){.fd = segment->fd, .size = size, .offset = offset};
    if (error == 0 && !slice_equal(record.key, entry_key(entry)))
        error = KVS_ERR_CORRUPTION;
    if (error < 0)
        damage_tell(log_of(view->engine), segment, offset, error);
    if (error != 0) {
        mem_free(buffer);
        return error;
    }
    buffer->next = mine->buffers;
    mine->buffers = buffer;
    *ret_value = record.value;
    return 0;
}

#define READ_AHEAD_SIZE_MAX (1u << 20) /* what is beyond may never be read: a page is full */
#define READ_AHEAD_GAP 8192u           /* read, too: that takes less than one more request */

static bool is_behind(const struct file_piece *piece, const struct file_piece *other)
{
    return piece->fd != other->fd ? piece->fd > other->fd : piece->from > other->from;
}

void read_ahead_add(struct read_ahead *ahead, const struct place *place, const struct entry *entry)
{
    uint32_t size = entry_record_size(entry);
    if (size > READ_AHEAD_SIZE_MAX - ahead->size)
        return;
    struct file_piece piece = {
        .fd = place->segment->fd, .from = place->offset, .to = place->offset + size};
    unsigned at = ahead->count++;
    for (; at > 0 && is_behind(&ahead->pieces[at - 1], &piece); at--)
        ahead->pieces[at] = ahead->pieces[at - 1];
    ahead->pieces[at] = piece;
    ahead->size += size;
}

void read_ahead_ask(struct read_ahead *ahead)
{
    if (ahead->count < 2) /* the read that follows is as soon */
        return;
    for (unsigned i = 0; i < ahead->count;) {
        struct file_piece *piece = &ahead->pieces[i];
        for (i++; i < ahead->count; i++) {
            const struct file_piece *next = &ahead->pieces[i];
            if (next->fd != piece->fd || next->from > piece->to + READ_AHEAD_GAP)
                break;
            piece->to = next->to;
        }
        file_read_ahead(piece->fd, piece->from, piece->to);
    }
}

/* Whoever asks for a value, and not for a pointer, reads it. */
static void value_fetch(kvs_slice value)
{
    for (size_t at = 0; at < value.size && at < VALUE_PREFETCH_MAX; at += 64)
        __builtin_prefetch(value.data + at);
}

/* Copying less costs no more than to count who reads where, and holds back no segment. */
#define VALUE_PIN_MIN 1024u

/* Inside the view's epoch. */
static inline bool value_pin(const struct place *place, const struct entry *entry,
                             struct engine_pin *ret_pin)
{
    if (ret_pin == NULL || entry->value_size < VALUE_PIN_MIN || !place_is_fixed(place))
        return false;
    segment_memory_ref(place->memory);
    *ret_pin = (struct engine_pin){.unpin = segment_memory_unref, .block = place->memory};
    return true;
}

static int value_get(struct engine_view *view, const struct entry *entry, kvs_slice *ret_value,
                     struct engine_pin *ret_pin)
{
    struct place place = entry_place(log_of(view->engine), entry);
    if (place.memory == NULL)
        return value_from_file(view, place.segment, place.offset, entry, ret_value);
    *ret_value = place_value(&place, entry);
    if (!value_pin(&place, entry, ret_pin))
        value_fetch(*ret_value);
    return 0;
}

static bool entry_is_over(struct engine_view *view, const struct entry *entry)
{
    return entry->expires && entry_is_expired(entry, view_wall_ms(view_of(view)));
}

static const struct entry *entry_find(struct engine_view *view, unsigned family, kvs_slice key)
{
    const struct entry *entry = tree_find(view_of(view)->version->families[family].root, key);
    return entry != NULL && !entry_is_over(view, entry) ? entry : NULL;
}

/* While the index is being made; where that does not do, waits for it. */
static int early_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
                     struct engine_pin *ret_pin)
{
    struct log_engine *log = log_of(view->engine);
    /* seq_cst: see epoch.c, as for the version. */
    struct loading *loading = atomic_load_explicit(&log->loading, memory_order_seq_cst);
    struct entry *entry;
    int error = loading != NULL ? loading_find(loading, family, key, view->may_block, &entry)
                                : ENGINE_WOULD_BLOCK;
    if (error == 0) {
        error = entry_is_over(view, entry) ? KVS_ERR_NOT_FOUND
                                           : value_get(view, entry, ret_value, ret_pin);
        mem_free(entry);
        return error;
    }
    if (error != ENGINE_WOULD_BLOCK)
        return error;
    error = view_ready(view);
    return error != 0 ? error : log_get(view, family, key, ret_value, ret_pin);
}

int log_get(struct engine_view *view, unsigned family, kvs_slice key, kvs_slice *ret_value,
            struct engine_pin *ret_pin)
{
    if (view_of(view)->version == NULL)
        return early_get(view, family, key, ret_value, ret_pin);
    const struct entry *entry = entry_find(view, family, key);
    return entry != NULL ? value_get(view, entry, ret_value, ret_pin) : KVS_ERR_NOT_FOUND;
}

static void entries_read_ahead(struct log_engine *log, struct entry *const *entries, unsigned count)
{
    struct read_ahead ahead = {.count = 0, .size = 0};
    for (unsigned i = 0; i < count; i++) {
        if (entries[i] == NULL)
            continue;
        struct place place = entry_place(log, entries[i]);
        if (place.memory == NULL)
            read_ahead_add(&ahead, &place, entries[i]);
    }
    read_ahead_ask(&ahead);
}

void log_get_many(struct engine_view *view, unsigned family, const kvs_slice *keys, unsigned count,
                  kvs_slice *ret_values, int *ret_errors, struct engine_pin *ret_pins)
{
    if (view_of(view)->version == NULL) {
        for (unsigned i = 0; i < count; i++) /* a loop must not look for many so slowly */
            ret_errors[i] = i < TREE_FIND_MANY_MAX || view->may_block
                                ? log_get(view, family, keys[i], &ret_values[i],
                                          ret_pins != NULL ? &ret_pins[i] : NULL)
                                : ENGINE_WOULD_BLOCK;
        return;
    }
    const struct node *root = view_of(view)->version->families[family].root;
    struct entry *entries[TREE_FIND_MANY_MAX];
    while (count > 0) {
        unsigned n = count < TREE_FIND_MANY_MAX ? count : TREE_FIND_MANY_MAX;
        tree_find_many(root, keys, n, entries);
        if (view->may_block)
            entries_read_ahead(log_of(view->engine), entries, n);
        for (unsigned i = 0; i < n; i++) {
            bool found = entries[i] != NULL && !entry_is_over(view, entries[i]);
            struct engine_pin *pin = ret_pins != NULL ? &ret_pins[i] : NULL;
            ret_errors[i] =
                found ? value_get(view, entries[i], &ret_values[i], pin) : KVS_ERR_NOT_FOUND;
        }
        keys += n;
        ret_values += n;
        ret_errors += n;
        ret_pins = ret_pins != NULL ? ret_pins + n : NULL;
        count -= n;
    }
}

int log_expiry(struct engine_view *view, unsigned family, kvs_slice key,
               uint64_t *ret_expires_at_ms)
{
    int error = view_ready(view);
    if (error != 0)
        return error;
    const struct entry *entry = entry_find(view, family, key);
    if (entry == NULL)
        return KVS_ERR_NOT_FOUND;
    *ret_expires_at_ms = entry_expires_at(entry);
    return 0;
}
