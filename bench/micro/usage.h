/* bench/micro/usage.h: no program here has options: an argument like one asks how it is called. */
#ifndef BENCH_MICRO_USAGE_H
#define BENCH_MICRO_USAGE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ends the program when there is such an argument, or there are fewer than `least`. */
static inline void usage_check(int argc, char **argv, int least, const char *usage)
{
    const char *option = NULL;
    for (int i = 1; i < argc && option == NULL; i++)
        if (argv[i][0] == '-')
            option = argv[i];
    if (option == NULL && argc > least)
        return;
    bool asked = option != NULL && (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0);
    fprintf(asked ? stdout : stderr, "usage: %s\n", usage);
    exit(asked ? EXIT_SUCCESS : 2);
}

#endif
