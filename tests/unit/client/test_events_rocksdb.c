/* The contract of event streams in this process, over RocksDB. */
#include "events_contract.h"

int main(void)
{
    return events_contract_in_directory("rocksdb");
}
