/* The contract of event streams in this process: memory:, and log: in a directory of its own. */
#include "events_contract.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char directory[] = "/tmp/kvs-test-XXXXXX";
    char url[64] = "memory:";
    struct events_kind kind = {.url = url, .has_groups = true};
    if (argc > 1 && strstr(argv[1], "://") != NULL) /* by hand: any server, empty */
        return events_contract_main(&(struct events_kind){.url = argv[1], .has_groups = true});
    if (argc > 1 && strcmp(argv[1], "memory") == 0)
        return events_contract_main(&kind);
    if (mkdtemp(directory) == NULL)
        return 1;
    snprintf(url, sizeof url, "log:%s", directory);
    int status = events_contract_main(&kind);
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command) == 0 ? status : 1;
}
