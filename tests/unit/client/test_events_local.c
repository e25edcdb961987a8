/* The contract of event streams in this process: memory:, and log: in a directory of its own. */
#include "events_contract.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strstr(argv[1], "://") != NULL) /* by hand: any server, empty */
        return events_contract_main(&(struct events_kind){.url = argv[1], .has_groups = true});
    if (argc > 1 && strcmp(argv[1], "memory") == 0)
        return events_contract_main(&(struct events_kind){.url = "memory:", .has_groups = true});
    return events_contract_in_directory("log");
}
