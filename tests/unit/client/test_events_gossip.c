/* The contract of event streams through a kvs-server: see events_served.h. */
#include "events_served.h"

int main(void)
{
    return events_served_main(EVENTS_BY_GOSSIP);
}
