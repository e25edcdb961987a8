/* Every call of kvs/txn.h on a server, in a keyspace: API V2. */
#include "unit/client/txn_world.h"

int main(void)
{
    return txn_calls_run(WORLD_TIKV_V2);
}
