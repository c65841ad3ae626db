/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the SIGBUS handler and the table of mappings it guards. Does not map
 * or unmap them, and does not decide what becomes of a connection.
 *
 * Theory of operation. A peer that truncates a file it shared makes every
 * access past the new end a SIGBUS. The handler must find out, in signal
 * context and without a lock, whether the address is in a guarded mapping:
 *
 *  - slots live in blocks that are only ever added, never freed, so that a
 *    list of them can be walked at any time; free slots are reused, so the
 *    table is as large as the most mappings there ever were at once;
 *  - a slot carries a sequence number, odd while it is written. A reader that
 *    sees it odd or changed skips the slot: whoever faults inside a mapping
 *    keeps that mapping alive, so its own slot is never the one in flux.
 *
 * From the page that faulted to the end of the mapping, private zero pages
 * then take the place of the file. Not only the one page: random accesses to
 * a large truncated file would split the mapping until the kernel refuses
 * more pieces, and the process would die after all.
 */
#include "vhu/guard-internal.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define GUARD_BLOCK_SLOTS 64u

struct VhuGuard {
    atomic_uint sequence;     /* odd while the next four change */
    atomic_uintptr_t base;    /* first byte guarded */
    atomic_size_t length;     /* bytes; 0: a free slot */
    atomic_size_t page_bytes; /* a power of two */
    atomic_int lost_fd;       /* -1: none */
    atomic_bool lost;         /* a fault was caught */
    VhuGuard *next_free;      /* of the free list, under guard_lock */
};

typedef struct GuardBlock {
    VhuGuard slots[GUARD_BLOCK_SLOTS];
    struct GuardBlock *next; /* fixed before the block is published */
} GuardBlock;

/* What a reader takes out of a slot. */
typedef struct GuardRange {
    uintptr_t base;
    size_t length;
    size_t page_bytes;
    int lost_fd;
} GuardRange;

static _Atomic(GuardBlock *) guard_blocks;
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER;
static VhuGuard *guard_free_list; /* under guard_lock */
static struct sigaction guard_previous;

static void guard_write(VhuGuard *guard, const GuardRange *range)
{
    unsigned sequence =
        atomic_load_explicit(&guard->sequence, memory_order_relaxed);

    atomic_store_explicit(&guard->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&guard->base, range->base, memory_order_relaxed);
    atomic_store_explicit(&guard->length, range->length, memory_order_relaxed);
    atomic_store_explicit(&guard->page_bytes, range->page_bytes,
                          memory_order_relaxed);
    atomic_store_explicit(&guard->lost_fd, range->lost_fd,
                          memory_order_relaxed);
    atomic_store_explicit(&guard->sequence, sequence + 2, memory_order_release);
}

/* False if the slot is being written. */
static bool guard_read(VhuGuard *guard, GuardRange *range)
{
    unsigned sequence =
        atomic_load_explicit(&guard->sequence, memory_order_acquire);

    range->base = atomic_load_explicit(&guard->base, memory_order_relaxed);
    range->length = atomic_load_explicit(&guard->length, memory_order_relaxed);
    range->page_bytes =
        atomic_load_explicit(&guard->page_bytes, memory_order_relaxed);
    range->lost_fd =
        atomic_load_explicit(&guard->lost_fd, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return sequence % 2 == 0 &&
           atomic_load_explicit(&guard->sequence, memory_order_relaxed) ==
               sequence;
}

/* The guard of an address, in signal context; NULL: not ours. */
static VhuGuard *guard_find(uintptr_t addr, GuardRange *range)
{
    GuardBlock *block =
        atomic_load_explicit(&guard_blocks, memory_order_acquire);
    unsigned i;

    for (; block; block = block->next) {
        for (i = 0; i < GUARD_BLOCK_SLOTS; i++) {
            if (guard_read(&block->slots[i], range) &&
                addr - range->base < range->length) {
                return &block->slots[i];
            }
        }
    }
    return NULL;
}

/* Put zero pages where the file was; false: the kernel has none to give. */
static bool guard_lose(VhuGuard *guard, const GuardRange *range, uintptr_t addr)
{
    uintptr_t page = addr & ~(uintptr_t)(range->page_bytes - 1);
    uintptr_t end = range->base + range->length;
    uint64_t one = 1;
    bool first = !atomic_exchange(&guard->lost, true);

    if (mmap((void *)page, end - page, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
             0) == MAP_FAILED) {
        return false;
    }
    if (first && range->lost_fd >= 0) {
        /* A counter too full to take it is readable all the same. */
        ssize_t written = write(range->lost_fd, &one, sizeof(one));

        (void)written;
    }
    return true;
}

/* What the process would have done without us. */
static void guard_chain(int number, siginfo_t *info, void *context)
{
    struct sigaction action = {.sa_handler = SIG_DFL};

    if (guard_previous.sa_flags & SA_SIGINFO) {
        guard_previous.sa_sigaction(number, info, context);
    } else if (guard_previous.sa_handler == SIG_IGN && info->si_code <= 0) {
        /* Sent by a process: may be ignored. A fault may not. */
        return;
    } else if (guard_previous.sa_handler != SIG_IGN &&
               guard_previous.sa_handler != SIG_DFL) {
        guard_previous.sa_handler(number);
    } else {
        /* Blocked until we return; then it ends the process. */
        sigaction(number, &action, NULL);
        raise(number);
    }
}

static void guard_handle(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t addr = (uintptr_t)info->si_addr;
    VhuGuard *guard = NULL;
    GuardRange range;

    /* Only the kernel's own codes carry an address. */
    if (info->si_code > 0) {
        guard = guard_find(addr, &range);
    }
    if (!guard || !guard_lose(guard, &range, addr)) {
        guard_chain(number, info, context);
    }
    errno = saved;
}

/* A kick, call or state fd may be a pipe whose other end the peer closed. */
static void ignore_sigpipe(void)
{
    struct sigaction current;

    sigaction(SIGPIPE, NULL, &current);
    if (!(current.sa_flags & SA_SIGINFO) && current.sa_handler == SIG_DFL) {
        current.sa_handler = SIG_IGN;
        sigaction(SIGPIPE, &current, NULL);
    }
}

static void guard_install(void)
{
    struct sigaction action = {
        .sa_sigaction = guard_handle,
        .sa_flags = SA_SIGINFO | SA_ONSTACK,
    };

    ignore_sigpipe();

    /* Known before the handler may need it. */
    sigaction(SIGBUS, NULL, &guard_previous);
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, NULL);
}

void vhu_guard_install(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, guard_install);
}

/* Under guard_lock. */
static bool guard_grow(void)
{
    GuardBlock *block = calloc(1, sizeof(*block));
    unsigned i;

    if (!block) {
        return false;
    }
    for (i = 0; i < GUARD_BLOCK_SLOTS; i++) {
        block->slots[i].next_free = guard_free_list;
        guard_free_list = &block->slots[i];
    }
    block->next = atomic_load_explicit(&guard_blocks, memory_order_relaxed);
    atomic_store_explicit(&guard_blocks, block, memory_order_release);
    return true;
}

VhuGuard *vhu_guard_add(void *base, size_t length, size_t page_bytes,
                        int lost_fd)
{
    GuardRange range = {
        .base = (uintptr_t)base,
        .length = length,
        .page_bytes = page_bytes,
        .lost_fd = lost_fd,
    };
    VhuGuard *guard = NULL;

    pthread_mutex_lock(&guard_lock);
    if (guard_free_list || guard_grow()) {
        guard = guard_free_list;
        guard_free_list = guard->next_free;
        atomic_store(&guard->lost, false);
        guard_write(guard, &range);
    }
    pthread_mutex_unlock(&guard_lock);
    return guard;
}

void vhu_guard_remove(VhuGuard *guard)
{
    GuardRange none = {.page_bytes = 1, .lost_fd = -1};

    if (!guard) {
        return;
    }
    pthread_mutex_lock(&guard_lock);
    guard_write(guard, &none);
    guard->next_free = guard_free_list;
    guard_free_list = guard;
    pthread_mutex_unlock(&guard_lock);
}

bool vhu_guard_lost(const VhuGuard *guard)
{
    return atomic_load(&guard->lost);
}
