/*
 * tests/fuzz/driver.c: runs a fuzz target as a plain test, without a fuzzing engine.
 *
 *   1. reads every file of the corpus directory given as the argument
 *   2. calls the target with each (one TAP line per file), with every short prefix of it, and
 *   3. with seeded random mutations of the files, splices of two included (one TAP line for all)
 *
 * Each input is a heap block of exactly its size, so that a sanitizer sees a read beyond its end.
 * When the target dies, the input that did it is left in the file fuzz-crash-SEED of the working
 * directory: put it into the corpus with the fix. FUZZ_SEED and FUZZ_MUTATIONS change the run.
 */
#include "base/clock.h"
#include "base/rand.h"
#include "fuzz/target.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES_MAX 4096
#define INPUT_SIZE_MAX (1u << 20)
#define PREFIXES_MAX 512
#define MUTATIONS_DEFAULT 20000
#define MUTATIONS_TIME_MAX_MS 5000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

struct input {
    char *name;
    uint8_t *data;
    size_t size;
};

static struct input corpus[FILES_MAX];
static size_t corpus_count;
static uint64_t seed = 1;

/* What the target is reading now; read by the death callback. */
static const uint8_t *current_data;
static size_t current_size;
static char crash_path[64];

static void crash_save(void)
{
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return;
    if (write(fd, current_data, current_size) == (ssize_t)current_size) {
        static const char text[] = "# the input that did it is in ";
        (void)!write(STDOUT_FILENO, text, sizeof(text) - 1);
        (void)!write(STDOUT_FILENO, crash_path, strlen(crash_path));
        (void)!write(STDOUT_FILENO, "\n", 1);
    }
    close(fd);
}

static void crash_on_signal(int number)
{
    crash_save();
    signal(number, SIG_DFL);
    raise(number);
}

static void target_call(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size != 0 ? size : 1);
    if (copy == NULL)
        abort();
    if (size != 0)
        memcpy(copy, data, size);
    current_data = copy;
    current_size = size;
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void corpus_file_read(const char *directory, const char *name)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    struct stat status;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0) {
        printf("Bail out! %s: %s\n", path, strerror(errno));
        exit(1);
    }
    if (S_ISREG(status.st_mode) && status.st_size <= INPUT_SIZE_MAX && corpus_count < FILES_MAX) {
        struct input *input = &corpus[corpus_count++];
        input->name = strdup(name);
        input->size = (size_t)status.st_size;
        input->data = malloc(input->size + 1);
        if (input->name == NULL || input->data == NULL ||
            read(fd, input->data, input->size) != (ssize_t)input->size) {
            printf("Bail out! cannot read %s\n", path);
            exit(1);
        }
    }
    close(fd);
}

static int input_compare(const void *a, const void *b)
{
    return strcmp(((const struct input *)a)->name, ((const struct input *)b)->name);
}

static void corpus_read(const char *directory)
{
    DIR *dir = opendir(directory);
    if (dir == NULL) {
        printf("Bail out! %s: %s\n", directory, strerror(errno));
        exit(1);
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != '.')
            corpus_file_read(directory, entry->d_name);
    }
    closedir(dir);
    if (corpus_count == 0) {
        printf("Bail out! no files in %s\n", directory);
        exit(1);
    }
    /* The same order on every machine: a seed then says the same everywhere. */
    qsort(corpus, corpus_count, sizeof(corpus[0]), input_compare);
}

/* One change in place; `size_max` is the room in data. Returns the new size. */
static size_t mutate_once(struct rand *rand, uint8_t *data, size_t size, size_t size_max)
{
    static const uint32_t edges[] = {0,      1,      0x7f,       0x80,       0xff,       0x7fff,
                                     0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 16 << 20};
    size_t at = size != 0 ? rand_below(rand, size) : 0;
    switch (rand_below(rand, 8)) {
    case 0: /* one bit */
        if (size != 0)
            data[at] ^= (uint8_t)(1u << rand_below(rand, 8));
        return size;
    case 1: /* one byte */
        if (size != 0)
            data[at] = (uint8_t)rand_u64(rand);
        return size;
    case 2: { /* a number at the edge of its range */
        uint32_t edge = edges[rand_below(rand, sizeof(edges) / sizeof(edges[0]))];
        size_t width = (size_t)1 << rand_below(rand, 3);
        if (size - at >= width)
            memcpy(data + at, &edge, width);
        return size;
    }
    case 3: /* cut off */
        return at;
    case 4: { /* take out */
        size_t count = size != 0 ? 1 + rand_below(rand, size - at) : 0;
        memmove(data + at, data + at + count, size - at - count);
        return size - count;
    }
    case 5: { /* repeat a part */
        size_t count = size != 0 ? 1 + rand_below(rand, size - at) : 0;
        if (size + count > size_max)
            return size;
        memmove(data + at + count, data + at, size - at);
        return size + count;
    }
    case 6: { /* put random bytes in */
        size_t count = 1 + rand_below(rand, 16);
        if (size + count > size_max)
            return size;
        memmove(data + at + count, data + at, size - at);
        for (size_t i = 0; i < count; i++)
            data[at + i] = (uint8_t)rand_u64(rand);
        return size + count;
    }
    default: { /* go on as another file does */
        const struct input *other = &corpus[rand_below(rand, corpus_count)];
        size_t from = other->size != 0 ? rand_below(rand, other->size) : 0;
        size_t count = other->size - from;
        if (at + count > size_max)
            count = size_max - at;
        memcpy(data + at, other->data + from, count);
        return at + count;
    }
    }
}

static uint64_t mutations_run(uint64_t count_max)
{
    static uint8_t data[2 * INPUT_SIZE_MAX];
    struct rand rand = rand_seed(seed);
    uint64_t deadline_ms = clock_now_ms() + MUTATIONS_TIME_MAX_MS;
    uint64_t count = 0;
    while (count < count_max && ((count & 63) != 0 || clock_now_ms() < deadline_ms)) {
        const struct input *input = &corpus[rand_below(&rand, corpus_count)];
        size_t size = input->size;
        memcpy(data, input->data, size);
        for (uint64_t i = 1 + rand_below(&rand, 4); i > 0; i--)
            size = mutate_once(&rand, data, size, sizeof(data));
        target_call(data, size);
        count++;
    }
    return count;
}

static uint64_t environment_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s CORPUS-DIRECTORY\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    seed = environment_number("FUZZ_SEED", seed);
    snprintf(crash_path, sizeof(crash_path), "fuzz-crash-%" PRIu64, seed);
    corpus_read(argv[1]);
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    if (__sanitizer_set_death_callback != NULL)
        __sanitizer_set_death_callback(crash_save);
    else
        signal(SIGSEGV, crash_on_signal);
    signal(SIGABRT, crash_on_signal);

    printf("TAP version 13\n1..%zu\n", corpus_count + 1);
    for (size_t i = 0; i < corpus_count; i++) {
        target_call(corpus[i].data, corpus[i].size);
        for (size_t size = 0; size < corpus[i].size && size < PREFIXES_MAX; size++)
            target_call(corpus[i].data, size);
        printf("ok %zu - %s\n", i + 1, corpus[i].name);
    }
    uint64_t count = mutations_run(environment_number("FUZZ_MUTATIONS", MUTATIONS_DEFAULT));
    printf("ok %zu - mutations\n# %" PRIu64 " mutations, seed %" PRIu64 "\n", corpus_count + 1,
           count, seed);
    for (size_t i = 0; i < corpus_count; i++) {
        free(corpus[i].name);
        free(corpus[i].data);
    }
    return 0;
}
