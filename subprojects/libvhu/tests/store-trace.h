/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sees every single store to some memory: the memory is made read-only, each
 * store faults, is executed alone with the processor's trap flag set, and
 * what the memory then holds is kept. That is what a SIGKILL between this
 * store and the next leaves behind.
 */
#ifndef TESTS_STORE_TRACE_H
#define TESTS_STORE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct StoreTrace {
    uint8_t *memory; /* page aligned, not written by anyone else */
    size_t bytes;    /* whole pages */
    size_t kept;     /* bytes of a copy, from the beginning */
    uint8_t *copies; /* @num of @kept bytes, before any store the first */
    unsigned num;
    unsigned room;
    bool overflow;
} StoreTrace;

/** Whether stores can be seen here: not under valgrind, not on every CPU. */
bool store_trace_works(void);

/** Room for copies. */
void store_trace_init(StoreTrace *trace, size_t kept, unsigned room);
void store_trace_clear(StoreTrace *trace);

/** Watch memory from now on; one trace at a time. */
void store_trace_begin(StoreTrace *trace, uint8_t *memory, size_t bytes);
void store_trace_end(StoreTrace *trace);

#endif
