/* runtime/delay.h: what a runtime that stops does with its delays. */
#ifndef RUNTIME_DELAY_H
#define RUNTIME_DELAY_H

struct delay;

/* Ends all of the chain with KVS_ERR_CLOSED. On the loop's thread. */
void delays_close(struct delay **delays);

#endif
