/* server/tikv_faults.c: see the header. Built with -Dfaults=true only. */
#include "server/tikv_faults.h"

#include "base/clock.h"
#include "base/rand.h"

#include <kvs/error.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SIZE 256u
#define NUMBER_MAX 1000000u

struct outage {
    uint64_t up_ms, down_ms; /* down_ms 0: none */
};

static struct {
    pthread_mutex_t mutex;
    struct rand rand;
    uint64_t since_ms;
    uint64_t region_errors; /* percent */
    uint64_t busy;
    struct outage store;
    struct outage pd;
} faults = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* Returns what is behind the number; NULL: there is none. */
static const char *parse_number(const char *text, uint64_t *ret_number)
{
    char *end;
    if (*text < '0' || *text > '9')
        return NULL;
    *ret_number = strtoull(text, &end, 10);
    return *ret_number <= NUMBER_MAX ? end : NULL;
}

static bool parse_percent(const char *text, uint64_t *ret_percent)
{
    const char *end = parse_number(text, ret_percent);
    return end != NULL && *end == '\0' && *ret_percent <= 100;
}

static bool parse_outage(const char *text, struct outage *ret_outage)
{
    const char *end = parse_number(text, &ret_outage->up_ms);
    if (end == NULL || *end != ':')
        return false;
    end = parse_number(end + 1, &ret_outage->down_ms);
    return end != NULL && *end == '\0';
}

static bool set_one(const char *name, const char *value)
{
    uint64_t seed;
    if (strcmp(name, "region-errors") == 0)
        return parse_percent(value, &faults.region_errors);
    if (strcmp(name, "busy") == 0)
        return parse_percent(value, &faults.busy);
    if (strcmp(name, "store-away") == 0)
        return parse_outage(value, &faults.store);
    if (strcmp(name, "pd-away") == 0)
        return parse_outage(value, &faults.pd);
    if (strcmp(name, "seed") != 0 || parse_number(value, &seed) == NULL)
        return false;
    faults.rand = rand_seed(seed);
    return true;
}

static void clear(void)
{
    faults.rand = rand_seed(1);
    faults.since_ms = clock_now_ms();
    faults.region_errors = faults.busy = 0;
    faults.store = faults.pd = (struct outage){0, 0};
}

int tikv_faults_set(const char *text, char message[256])
{
    char copy[TEXT_SIZE];
    char *rest = copy;
    char *part;
    int error = 0;
    pthread_mutex_lock(&faults.mutex);
    clear();
    snprintf(copy, sizeof copy, "%s", text);
    while (error == 0 && (part = strsep(&rest, ",")) != NULL) {
        char *value = strchr(part, '=');
        if (*part == '\0')
            continue;
        if (value != NULL)
            *value++ = '\0';
        if (value == NULL || !set_one(part, value)) {
            snprintf(message, 256, "no such fault: %.32s=%.32s", part, value != NULL ? value : "");
            error = KVS_ERR_INVALID_ARGUMENT;
        }
    }
    if (error != 0)
        clear();
    pthread_mutex_unlock(&faults.mutex);
    return error;
}

enum tikv_fault_error tikv_fault_next(void)
{
    enum tikv_fault_error error = TIKV_FAULT_NONE;
    pthread_mutex_lock(&faults.mutex);
    if (faults.busy > 0 && rand_below(&faults.rand, 100) < faults.busy)
        error = TIKV_FAULT_BUSY;
    else if (faults.region_errors > 0 && rand_below(&faults.rand, 100) < faults.region_errors)
        error = TIKV_FAULT_NO_LEADER +
                (unsigned)rand_below(&faults.rand, TIKV_FAULT_ERRORS - TIKV_FAULT_NO_LEADER);
    pthread_mutex_unlock(&faults.mutex);
    return error;
}

static bool is_away(const struct outage *outage)
{
    pthread_mutex_lock(&faults.mutex);
    uint64_t since_ms = clock_now_ms() - faults.since_ms;
    uint64_t round_ms = outage->up_ms + outage->down_ms;
    bool away = outage->down_ms > 0 && since_ms % round_ms >= outage->up_ms;
    pthread_mutex_unlock(&faults.mutex);
    return away;
}

bool tikv_fault_store_away(void)
{
    return is_away(&faults.store);
}

bool tikv_fault_pd_away(void)
{
    return is_away(&faults.pd);
}

bool tikv_fault_store_goes(void)
{
    pthread_mutex_lock(&faults.mutex);
    bool goes = faults.store.down_ms > 0;
    pthread_mutex_unlock(&faults.mutex);
    return goes;
}
