/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver of one page of code for tests that copy rings: all it knows is in
 * one struct without pointers, so a copy of struct and memory is a copy of
 * the driver. Buffers are small numbers, of one to three descriptors.
 */
#ifndef TESTS_TINY_DRIVER_H
#define TESTS_TINY_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#define TINY_MAX_BUFFERS 16u
#define TINY_MAX_DESCS   3u

typedef struct TinyDriver {
    bool packed;
    bool in_order;      /* used buffers must come in the order of adding */
    uint32_t size;      /* entries; split: 4 * buffers at least */
    uint64_t data;      /* guest address of what descriptors point at */
    uint64_t driver_at; /* offsets of the parts; descriptors are at 0 */
    uint64_t device_at;

    uint16_t avail; /* split: index; packed: position */
    uint16_t used;
    bool avail_wrap;
    bool used_wrap;
    uint8_t num_descs[TINY_MAX_BUFFERS]; /* 0: not out */
    uint8_t order[TINY_MAX_BUFFERS];     /* what is out, in that order */
    unsigned num_out;
    unsigned free_descs;
} TinyDriver;

/** Begin, with positions as if the ring had been in use.
 * @at: split: both indices; packed: both positions, bit 15 the wrap. */
void tiny_init(TinyDriver *driver, uint8_t *memory, uint16_t at);

/** Make a buffer available. Returns false if it is out or does not fit. */
bool tiny_add(TinyDriver *driver, uint8_t *memory, unsigned buffer,
              unsigned num_descs);

/** Take back all that was used; fails the test if that was not out. */
void tiny_reap(TinyDriver *driver, const uint8_t *memory);

/** The buffer a head or id stands for. */
unsigned tiny_buffer(const TinyDriver *driver, uint32_t id);

/** The base of a ring that has used all. */
uint32_t tiny_base(const TinyDriver *driver);

#endif
