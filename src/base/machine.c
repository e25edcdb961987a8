/*
 * base/machine.c: memory and processors of the machine, as far as we may have them.
 *
 * Inside a container the group's own files are those at the top; without one, the limits of
 * services started by systemd are in a group further down, which /proc/self/cgroup names.
 */
#include "base/machine.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MEMORY_UNKNOWN (1024u * 1024 * 1024)

/* A file with one number. UINT64_MAX: there is none ("max"), or no such file. */
static uint64_t read_limit(const char *path)
{
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return UINT64_MAX;
    if (fscanf(file, "%" SCNu64, &limit) != 1)
        limit = UINT64_MAX;
    fclose(file);
    return limit;
}

/* The limit of our group of control groups' second version; its parents' are not looked at. */
static uint64_t read_own_limit(void)
{
    char line[512], path[640];
    uint64_t limit = UINT64_MAX;
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return UINT64_MAX;
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
        limit = read_limit(path);
    }
    fclose(file);
    return limit;
}

uint64_t machine_memory_bytes(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_size = sysconf(_SC_PAGESIZE);
    uint64_t memory = MEMORY_UNKNOWN;
    if (pages > 0 && page_size > 0)
        memory = (uint64_t)pages * (uint64_t)page_size;
    const uint64_t limits[] = {
        read_limit("/sys/fs/cgroup/memory.max"),
        read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        read_own_limit(),
    };
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        memory = limits[i] > 0 && limits[i] < memory ? limits[i] : memory;
    return memory;
}

unsigned machine_processors(void)
{
    cpu_set_t allowed;
    long count = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                     ? CPU_COUNT(&allowed)
                     : sysconf(_SC_NPROCESSORS_ONLN); /* more than the set has room for */
    return count > 0 ? (unsigned)count : 1;
}
