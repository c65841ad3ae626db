/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver's queue and a device's ring on one guest, and a model of both that
 * knows only which buffers are where, in which order, and counts that never
 * wrap. Each operation is done and judged by the model.
 */
#ifndef TESTS_RING_MODEL_H
#define TESTS_RING_MODEL_H

#include "tests/ring-guest.h"

#define MODEL_MAX_PIECES 8u

typedef struct ModelBuffer {
    uint8_t *data; /* the driver's view */
    VhuGuestAddr addr;
    uint32_t serial;
    VhuPiece out[MODEL_MAX_PIECES];
    VhuPiece in[MODEL_MAX_PIECES];
    uint32_t num_out;
    uint32_t num_in;
    uint64_t out_bytes;
    uint64_t in_bytes;
    uint32_t units; /* what positions move by: 1 (split), descriptors */
    uint32_t descs; /* of the ring */
    uint32_t written;
    bool pushed;
    VhuElement *element;
} ModelBuffer;

/* What one side asked to be told. */
typedef struct ModelWish {
    bool always;
    bool never;
    uint64_t at; /* else: when this position is passed */
} ModelWish;

typedef struct Model {
    GRand *rand;
    uint64_t features;
    uint32_t size;
    RingGuest *guest;
    VhuDriverConfig config;
    VhuDriverQueue *queue;
    VhuRing *ring;

    ModelBuffer *buffers;
    uint32_t serial;
    GQueue idle;
    GQueue available;
    GQueue popped; /* in that order; with IN_ORDER until shown */
    GQueue pushed; /* in that order; not with IN_ORDER */
    GQueue shown;
    uint32_t free_descs;
    uint32_t num_popped;
    uint32_t num_pushed;

    uint64_t added; /* positions */
    uint64_t taken; /* by the device */
    uint64_t used;
    uint64_t got;
    uint64_t asked; /* added, when a kick was last asked for */
    ModelWish driver_wish;
    ModelWish device_wish;
    unsigned add_bias; /* of 8: how much rather to fill than to drain */
} Model;

/** Make one of everything, nothing in flight. */
Model *model_new(uint64_t features, uint32_t size, uint32_t seed);
void model_free(Model *model);

/** An operation that suits; more of those that fill the ring or of those that
 * drain it, by add_bias. */
void model_op(Model *model);

/** One of each side's; what cannot be done is not done. */
void model_add(Model *model);
void model_pop(Model *model);
void model_push(Model *model);
void model_flush(Model *model);
void model_get(Model *model);

#endif
