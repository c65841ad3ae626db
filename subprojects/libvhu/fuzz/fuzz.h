/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a fuzz target gives to fuzz-main.c, which makes a program of it: under
 * libFuzzer one that mutates the seeds, else one that replays them and what
 * is next to them.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Seeds are not longer than this. */
#define FUZZ_SEED_BYTES 8192u

/** The target's name, as in "fuzz-NAME.c". */
extern const char fuzz_name[];

/**
 * Run the code under test on one input; abort if it breaks a promise.
 * @bytes: @size bytes of any content
 */
void fuzz_one(const uint8_t *bytes, size_t size);

/**
 * Give an input worth starting from.
 * @number: which, from 0
 * @bytes:  room for FUZZ_SEED_BYTES
 * Returns its size, or 0 past the last.
 */
size_t fuzz_seed(unsigned number, uint8_t *bytes);

#endif
