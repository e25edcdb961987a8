/* events_patient.h: options of a client of event streams whose time-outs a test is not about. */
#ifndef TESTS_UNIT_CLIENT_EVENTS_PATIENT_H
#define TESTS_UNIT_CLIENT_EVENTS_PATIENT_H

#include "times.h"

#include <kvs/events.h>

static inline struct kvs_events_options events_patient(void)
{
    return (struct kvs_events_options){.size = sizeof(struct kvs_events_options),
                                       .timeout_ms = PATIENT_MS,
                                       .connect_timeout_ms = PATIENT_MS,
                                       .attempt_timeout_ms = PATIENT_MS,
                                       .heartbeat_timeout_ms = PATIENT_MS,
                                       .gossip_timeout_ms = PATIENT_MS};
}

#endif
