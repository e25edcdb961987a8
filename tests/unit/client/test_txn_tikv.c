/* Every call of kvs/txn.h on a server, by TiKV's protocol, API V1. */
#include "unit/client/txn_world.h"

int main(void)
{
    return txn_calls_run(WORLD_TIKV);
}
