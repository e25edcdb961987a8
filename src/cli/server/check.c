/* cli/server/check.c: kvs-server --verify and --repair; the report is on standard output. */
#include "cli/server/check.h"

#include "engine/log/check.h"

#include <stdio.h>
#include <stdlib.h>

static void print_line(struct log_check *check, const char *line)
{
    printf("%s\n", line);
}

static void print_end(const struct log_check *check, const char *save_to)
{
    printf("%llu files, %llu bytes, %llu records, %llu keys\n", (unsigned long long)check->segments,
           (unsigned long long)check->bytes, (unsigned long long)check->records,
           (unsigned long long)check->keys);
    if (save_to != NULL)
        printf("saved %llu keys in %s\n", (unsigned long long)check->saved, save_to);
    if (check->damages == 0)
        printf("no damage\n");
    else
        printf("%llu %s damaged, %llu bytes lost; a lost record may have been newer than one of "
               "its key that is still there\n",
               (unsigned long long)check->damages, check->damages == 1 ? "place is" : "places are",
               (unsigned long long)check->lost_bytes);
}

int check_directory(const struct server_settings *settings, char message[ARGUMENTS_MESSAGE_SIZE])
{
    const char *directory = settings->directory != NULL ? settings->directory : ".";
    struct log_check check = {.say = print_line};
    struct engine_message said = {{0}};
    kvs_thread_pool *pool;
    int error = kvs_thread_pool_new(KVS_THREAD_POOL_SHARED_QUEUE, 1, &pool);
    if (error == 0) {
        error = log_check_blocking(&check, directory, settings->repair, pool, &said);
        kvs_thread_pool_unref(pool);
    }
    if (error != 0) {
        snprintf(message, ARGUMENTS_MESSAGE_SIZE, "%s",
                 said.text[0] != '\0' ? said.text : kvs_error_text(error));
        return EXIT_FAILURE;
    }
    print_end(&check, settings->repair);
    return check.damages == 0 && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
