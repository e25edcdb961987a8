/* tests/times.h: how much of the same a test does in which build, and how long it waits. */
#ifndef TESTS_TIMES_H
#define TESTS_TIMES_H

/* How often, how many: in the plain build, under AddressSanitizer, under ThreadSanitizer. Each path
 * is there in all of them; what no memory or thread is a part of need not be repeated in each. */
#if defined(__SANITIZE_THREAD__)
#define TIMES(plain, asan, tsan) (tsan)
#elif defined(__SANITIZE_ADDRESS__)
#define TIMES(plain, asan, tsan) (asan)
#else
#define TIMES(plain, asan, tsan) (plain)
#endif

/* For every time-out that a test is not about: however little of a machine it gets, the runner is
 * to end it. The defaults of clients and servers are seconds. */
#define PATIENT_MS 600000u

#endif
