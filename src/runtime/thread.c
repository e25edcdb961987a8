/* runtime/thread.c: see runtime/thread.h. */
#include "runtime/thread.h"

#include "base/fault.h"

#include <kvs/error.h>
#include <signal.h>

int thread_start(pthread_t *ret_thread, const char *name, void *(*run)(void *), void *arg)
{
    if (fault_hit(FAULT_THREAD_START))
        return KVS_ERR_NO_MEMORY;
    sigset_t blocked, before;
    sigfillset(&blocked);
    /* A fault of the thread itself reaches the program's handler; profilers sample by SIGPROF. */
    sigdelset(&blocked, SIGSEGV);
    sigdelset(&blocked, SIGBUS);
    sigdelset(&blocked, SIGILL);
    sigdelset(&blocked, SIGFPE);
    sigdelset(&blocked, SIGABRT);
    sigdelset(&blocked, SIGTRAP);
    sigdelset(&blocked, SIGPROF);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    int status = pthread_create(ret_thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0)
        return KVS_ERR_NO_MEMORY; /* EAGAIN: no room for a stack, or a limit on threads */
    if (name != NULL)
        pthread_setname_np(*ret_thread, name); /* for tools only: a failure changes nothing */
    return 0;
}
