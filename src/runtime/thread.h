/*
 * runtime/thread.h: starts a thread of ours, or makes room for others.
 *
 * Signals are the program's: our threads block all that a process can be sent, so that handlers run
 * on the program's threads, and a write to a closed socket fails with EPIPE instead of a signal.
 */
#ifndef RUNTIME_THREAD_H
#define RUNTIME_THREAD_H

#include <pthread.h>

/* Between two looks at what another thread is about to change. */
static inline void thread_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* A joinable thread named `name` (15 bytes at most; NULL: as the calling thread, and cheaper). 0 or
 * NO_MEMORY. */
int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg);

/* For a thread that computes for long, from now on: whoever wakes up is scheduled before it, at
 * once, but where processors are short it gets what others get. The real-time class of a program
 * that started it is left. A wish, for which nobody needs a right. */
void thread_give_way(void);

/* The calling thread is in the background from now on: it gives way, and where processors are short
 * it gets a third of what others get. More than once costs nothing. */
void thread_step_back(void);

#endif
