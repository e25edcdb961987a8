/* cli/bench/polled.c: see cli/bench/polled.h. */
#include "cli/bench/polled.h"

#include <poll.h>
#include <stdio.h>

int polled_open(struct polled *polled, char text[TARGET_TEXT_MAX])
{
    int error = kvs_runtime_new_polled(NULL, &polled->runtime);
    if (error != 0)
        snprintf(text, TARGET_TEXT_MAX, "%s", kvs_error_text(error));
    return error;
}

void polled_close(struct polled *polled)
{
    kvs_runtime_free(polled->runtime);
    polled->runtime = NULL;
}

void polled_turn(struct polled *polled, int timeout_max_ms)
{
    struct pollfd descriptor = {.fd = kvs_runtime_fd(polled->runtime), .events = POLLIN};
    int timeout_ms = kvs_runtime_poll_timeout_ms(polled->runtime);
    if (timeout_max_ms >= 0 && (timeout_ms < 0 || timeout_ms > timeout_max_ms))
        timeout_ms = timeout_max_ms;
    polled->turns++;
    if (timeout_ms != 0)
        poll(&descriptor, 1, timeout_ms);
    kvs_runtime_poll(polled->runtime);
}

int polled_finish(struct polled *polled, kvs_future *future, void **ret_pointer,
                  int64_t *ret_number, char text[TARGET_TEXT_MAX])
{
    while (future != NULL && !kvs_future_is_ready(future))
        polled_turn(polled, -1);
    int error = kvs_future_error(future);
    if (error != 0)
        snprintf(text, TARGET_TEXT_MAX, "%s", kvs_future_error_message(future));
    if (error == 0 && ret_pointer != NULL)
        kvs_future_get_pointer(future, ret_pointer);
    if (error == 0 && ret_number != NULL)
        kvs_future_get_number(future, ret_number);
    kvs_future_free(future);
    return error;
}

struct kvs_store_options polled_options(const struct target *target)
{
    return (struct kvs_store_options){
        .size = sizeof(struct kvs_store_options),
        .sync = (enum kvs_sync)target->sync,
        .tls_ca = target->tls.ca,
        .tls_certificate = target->tls.certificate,
        .tls_key = target->tls.key,
    };
}
