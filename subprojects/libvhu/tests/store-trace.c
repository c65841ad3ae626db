/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tracing of stores. Knows nothing of rings. */
#include "tests/store-trace.h"

#include <glib.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define PROBE_BYTES 4096u

#ifdef __x86_64__

#define TRAP_FLAG 0x100

static StoreTrace *active;
static struct sigaction old_segv;
static struct sigaction old_trap;

static void keep_copy(StoreTrace *trace)
{
    uint8_t *copy = trace->copies + trace->num * trace->kept;

    if (trace->num > 0 &&
        memcmp(copy - trace->kept, trace->memory, trace->kept) == 0) {
        return;
    }
    if (trace->num == trace->room) {
        trace->overflow = true;
        return;
    }
    memcpy(copy, trace->memory, trace->kept);
    trace->num++;
}

/* A store: let it through, alone. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;
    uintptr_t addr = (uintptr_t)info->si_addr;
    uintptr_t memory = active ? (uintptr_t)active->memory : 0;

    if (!active || addr < memory || addr >= memory + active->bytes) {
        /* Somebody else's fault: it comes again, to whom it belongs. */
        sigaction(signal, &old_segv, NULL);
        return;
    }
    mprotect(active->memory, active->bytes, PROT_READ | PROT_WRITE);
    at->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

/* It was executed. */
static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *at = context;

    (void)signal;
    (void)info;
    at->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
    keep_copy(active);
    mprotect(active->memory, active->bytes, PROT_READ);
}

void store_trace_begin(StoreTrace *trace, uint8_t *memory, size_t bytes)
{
    struct sigaction segv = {
        .sa_sigaction = on_fault,
        .sa_flags = SA_SIGINFO,
    };
    struct sigaction trap = {
        .sa_sigaction = on_trap,
        .sa_flags = SA_SIGINFO,
    };

    g_assert_null(active);
    trace->memory = memory;
    trace->bytes = bytes;
    trace->num = 0;
    trace->overflow = false;
    keep_copy(trace);
    active = trace;
    sigaction(SIGSEGV, &segv, &old_segv);
    sigaction(SIGTRAP, &trap, &old_trap);
    g_assert_cmpint(mprotect(memory, bytes, PROT_READ), ==, 0);
}

void store_trace_end(StoreTrace *trace)
{
    g_assert_cmpint(
        mprotect(trace->memory, trace->bytes, PROT_READ | PROT_WRITE), ==, 0);
    sigaction(SIGSEGV, &old_segv, NULL);
    sigaction(SIGTRAP, &old_trap, NULL);
    active = NULL;
    g_assert_false(trace->overflow);
}

#else

void store_trace_begin(StoreTrace *trace, uint8_t *memory, size_t bytes)
{
    trace->memory = memory;
    trace->bytes = bytes;
    trace->num = 0;
}

void store_trace_end(StoreTrace *trace)
{
    (void)trace;
}

#endif

void store_trace_init(StoreTrace *trace, size_t kept, unsigned room)
{
    *trace = (StoreTrace){.kept = kept, .room = room};
    trace->copies = g_malloc(room * kept);
}

void store_trace_clear(StoreTrace *trace)
{
    g_free(trace->copies);
}

bool store_trace_works(void)
{
    StoreTrace trace;
    volatile uint8_t *page = mmap(NULL, PROBE_BYTES, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool works;

    g_assert_true(page != MAP_FAILED);
    store_trace_init(&trace, 2, 4);
    store_trace_begin(&trace, (uint8_t *)page, PROBE_BYTES);
    page[0] = 1;
    page[1] = 2;
    store_trace_end(&trace);
    works = trace.num == 3 && memcmp(trace.copies, "\0\0\1\0\1\2", 6) == 0;
    store_trace_clear(&trace);
    munmap((void *)page, PROBE_BYTES);
    return works;
}
