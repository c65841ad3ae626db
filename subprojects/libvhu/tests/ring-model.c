/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the model of a ring and its judgement. What runs are made of is
 * test-ring-model.c's. */
#include "tests/ring-model.h"

#include <errno.h>
#include <string.h>

#define SLOT_BYTES                                                             \
    272u /* of guest memory per buffer, not a divisor of a page */
#define PIECE_BYTES (SLOT_BYTES / MODEL_MAX_PIECES)

static bool has(const Model *model, unsigned bit)
{
    return model->features & BIT(bit);
}

static uint32_t below(Model *model, uint32_t limit)
{
    return (uint32_t)g_rand_int_range(model->rand, 0, (int)limit);
}

static uint8_t pattern(uint32_t serial, uint64_t i)
{
    return (uint8_t)(serial * 31 + i * 7 + 1);
}

/* ---- The model's judgement ---- */

/* Whether a step from @from to @to is one the other side wants to hear of;
 * positions in rings repeat. */
static bool expects(const Model *model, ModelWish wish, uint64_t from,
                    uint64_t to)
{
    uint64_t period =
        has(model, VIRTIO_F_RING_PACKED) ? 2 * (uint64_t)model->size : 65536;

    if (wish.always || wish.never) {
        return wish.always && to > from;
    }
    return (wish.at + (from / period + 1) * period - from) % period < to - from;
}

static ModelWish wish_of(const Model *model, ModelWish before, bool enable,
                         uint64_t at)
{
    if (has(model, VIRTIO_RING_F_EVENT_IDX)) {
        if (enable) {
            return (ModelWish){.at = at};
        }
        /* Split rings have no way to say never. */
        return has(model, VIRTIO_F_RING_PACKED) ? (ModelWish){.never = true}
                                                : before;
    }
    return (ModelWish){.always = enable, .never = !enable};
}

/* ---- The driver's operations ---- */

static void make_pieces(Model *model, ModelBuffer *buffer)
{
    uint32_t num = 1 + below(model, MODEL_MAX_PIECES);
    uint32_t num_out = below(model, num + 1);
    VhuPiece *piece;

    buffer->num_out = num_out;
    buffer->num_in = num - num_out;
    buffer->out_bytes = 0;
    buffer->in_bytes = 0;
    for (uint32_t i = 0; i < num; i++) {
        piece = i < num_out ? &buffer->out[i] : &buffer->in[i - num_out];
        piece->addr = buffer->addr + i * PIECE_BYTES;
        piece->bytes = below(model, 8) ? 1 + below(model, PIECE_BYTES) : 0;
        *(i < num_out ? &buffer->out_bytes : &buffer->in_bytes) += piece->bytes;
    }
}

static uint8_t *driver_byte(const ModelBuffer *buffer, const VhuPiece *pieces,
                            uint64_t i)
{
    while (i >= pieces->bytes) {
        i -= pieces->bytes;
        pieces++;
    }
    return buffer->data + (pieces->addr - buffer->addr) + i;
}

void model_add(Model *model)
{
    ModelBuffer *buffer = g_queue_peek_head(&model->idle);
    VhuDriverBuffer out = {.cookie = buffer};
    uint32_t num;
    int expected = 0;

    if (!buffer) {
        return;
    }
    make_pieces(model, buffer);
    buffer->serial = model->serial++;
    memset(buffer->data, 0xee, SLOT_BYTES);
    for (uint64_t i = 0; i < buffer->out_bytes; i++) {
        *driver_byte(buffer, buffer->out, i) = pattern(buffer->serial, i);
    }
    num = buffer->num_out + buffer->num_in;
    buffer->descs = num;
    if (has(model, VIRTIO_RING_F_INDIRECT_DESC) &&
        num >= model->config.indirect_from &&
        num <= model->config.indirect_max) {
        buffer->descs = 1;
    }
    buffer->units = has(model, VIRTIO_F_RING_PACKED) ? buffer->descs : 1;
    if (buffer->descs > model->size) {
        expected = -EINVAL;
    } else if (buffer->descs > model->free_descs) {
        expected = -ENOSPC;
    }
    out.out = buffer->out;
    out.num_out = buffer->num_out;
    out.in = buffer->in;
    out.num_in = buffer->num_in;
    g_assert_cmpint(vhu_driver_add(model->queue, &out), ==, expected);
    if (expected == 0) {
        g_queue_pop_head(&model->idle);
        g_queue_push_tail(&model->available, buffer);
        model->free_descs -= buffer->descs;
        model->added += buffer->units;
    }
}

static void op_kick(Model *model)
{
    g_assert_cmpint(
        vhu_driver_should_kick(model->queue), ==,
        expects(model, model->device_wish, model->asked, model->added));
    model->asked = model->added;
}

void model_get(Model *model)
{
    ModelBuffer *buffer = g_queue_pop_head(&model->shown);
    VhuDriverUsed used = {0};
    VhuError err = {0};
    int ret = vhu_driver_get(model->queue, &used, &err);

    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpint(ret, ==, buffer ? 1 : 0);
    if (!buffer) {
        return;
    }
    g_assert_true(used.cookie == buffer);
    g_assert_cmpuint(used.written, ==, buffer->written);
    for (uint64_t i = 0; i < buffer->in_bytes; i++) {
        g_assert_cmpuint(*driver_byte(buffer, buffer->in, i), ==,
                         i < buffer->written ? pattern(~buffer->serial, i)
                                             : 0xee);
    }
    for (uint64_t i = 0; i < buffer->out_bytes; i++) {
        g_assert_cmpuint(*driver_byte(buffer, buffer->out, i), ==,
                         pattern(buffer->serial, i));
    }
    model->free_descs += buffer->descs;
    model->got += buffer->units;
    g_queue_push_tail(&model->idle, buffer);
}

static void op_driver_notify(Model *model)
{
    bool enable = below(model, 4);
    bool more = vhu_driver_set_notify(model->queue, enable);

    g_assert_cmpint(more, ==, enable && model->shown.length > 0);
    model->driver_wish = wish_of(model, model->driver_wish, enable, model->got);
}

/* ---- The device's operations ---- */

static void check_element(Model *model, const ModelBuffer *buffer)
{
    const VhuElement *element = buffer->element;
    uint8_t bytes[SLOT_BYTES + 1];
    uint64_t sum = 0;

    g_assert_true(element->ring == model->ring);
    g_assert_true(element->memory == model->guest->memory);
    g_assert_false(element->resubmitted);
    g_assert_cmpuint(element->out_bytes, ==, buffer->out_bytes);
    g_assert_cmpuint(element->in_bytes, ==, buffer->in_bytes);
    for (uint32_t i = 0; i < element->num_in; i++) {
        g_assert_cmpuint(element->in[i].iov_len, >, 0);
        sum += element->in[i].iov_len;
    }
    g_assert_cmpuint(sum, ==, buffer->in_bytes);
    g_assert_cmpuint(vhu_element_read(element, 0, bytes, sizeof(bytes)), ==,
                     buffer->out_bytes);
    for (uint64_t i = 0; i < buffer->out_bytes; i++) {
        g_assert_cmpuint(bytes[i], ==, pattern(buffer->serial, i));
    }
}

void model_pop(Model *model)
{
    ModelBuffer *buffer = g_queue_peek_head(&model->available);
    VhuElement *element = NULL;
    VhuError err = {0};
    int ret;

    g_assert_cmpint(vhu_ring_has_work(model->ring), ==, buffer != NULL);
    ret = vhu_ring_pop(model->ring, &element, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_cmpint(ret, ==, buffer ? 1 : 0);
    if (!buffer) {
        return;
    }
    buffer->element = element;
    check_element(model, buffer);
    if (below(model, 16) == 0) {
        vhu_ring_unpop(model->ring, element);
        return;
    }
    buffer->pushed = false;
    g_queue_push_tail(&model->popped, g_queue_pop_head(&model->available));
    model->num_popped++;
    model->taken += buffer->units;
}

static ModelBuffer *pick_popped(Model *model)
{
    uint32_t tries = 4;
    ModelBuffer *buffer;

    while (tries-- > 0) {
        /* Near an end, so that a long queue is not searched. */
        if (below(model, 2)) {
            buffer = g_queue_peek_nth(
                &model->popped, below(model, MIN(model->popped.length, 8)));
        } else {
            buffer = g_queue_peek_tail(&model->popped);
        }
        if (!buffer->pushed) {
            return buffer;
        }
    }
    return NULL;
}

void model_push(Model *model)
{
    uint8_t bytes[SLOT_BYTES];
    ModelBuffer *buffer = model->popped.length ? pick_popped(model) : NULL;

    if (!buffer) {
        return;
    }
    buffer->written = below(model, 2) ? (uint32_t)buffer->in_bytes
                                      : below(model, buffer->in_bytes + 1);
    for (uint32_t i = 0; i < buffer->written; i++) {
        bytes[i] = pattern(~buffer->serial, i);
    }
    g_assert_cmpuint(
        vhu_element_write(buffer->element, 0, bytes, buffer->written), ==,
        buffer->written);
    vhu_ring_push(model->ring, buffer->element, buffer->written);
    buffer->pushed = true;
    model->num_popped--;
    model->num_pushed++;
    if (!has(model, VIRTIO_F_IN_ORDER)) {
        g_queue_remove(&model->popped, buffer);
        g_queue_push_tail(&model->pushed, buffer);
    }
}

/* What the flush must show: everything pushed, or in order what nothing
 * holds back. */
static ModelBuffer *next_to_show(Model *model)
{
    ModelBuffer *buffer;

    if (!has(model, VIRTIO_F_IN_ORDER)) {
        return g_queue_pop_head(&model->pushed);
    }
    buffer = g_queue_peek_head(&model->popped);
    return buffer && buffer->pushed ? g_queue_pop_head(&model->popped) : NULL;
}

void model_flush(Model *model)
{
    uint64_t from = model->used;
    ModelBuffer *buffer;
    bool expected;

    while ((buffer = next_to_show(model))) {
        g_queue_push_tail(&model->shown, buffer);
        model->used += buffer->units;
        model->num_pushed--;
    }
    expected = expects(model, model->driver_wish, from, model->used);
    if (has(model, VIRTIO_F_NOTIFY_ON_EMPTY) && model->used > from &&
        model->available.length == 0) {
        expected = true;
    }
    g_assert_cmpint(vhu_ring_flush(model->ring), ==, expected);
}

static void op_device_notify(Model *model)
{
    bool enable = below(model, 4);
    bool more = vhu_ring_set_notify(model->ring, enable);

    g_assert_cmpint(more, ==, enable && model->available.length > 0);
    model->device_wish =
        wish_of(model, model->device_wish, enable, model->taken);
}

static void start_device(Model *model, uint32_t base)
{
    VhuRingConfig config = {
        .size = model->size,
        .features = model->features,
        .base = base,
        .request_bytes = 24,
    };

    model->ring = guest_ring_new(model->guest, model->queue, config);
}

/* Stop and start, as far as the device has drained. */
static void op_restart(Model *model)
{
    uint32_t base = vhu_ring_base(model->ring);

    if (model->num_popped + model->num_pushed > 0) {
        return;
    }
    if (model->available.length == 0 && model->shown.length == 0) {
        g_assert_cmphex(vhu_driver_base(model->queue), ==, base);
    }
    vhu_ring_free(model->ring);
    start_device(model, base);
    g_assert_cmphex(vhu_ring_base(model->ring), ==, base);
}

/* ---- Any of them ---- */

static const struct {
    void (*op)(Model *model);
    unsigned filling;
    unsigned draining;
} ops[] = {
    {model_add, 12, 3},       {op_kick, 2, 1},          {model_pop, 8, 4},
    {model_push, 4, 12},      {model_flush, 3, 3},      {model_get, 3, 12},
    {op_driver_notify, 1, 1}, {op_device_notify, 1, 1}, {op_restart, 1, 1},
};

void model_op(Model *model)
{
    bool filling = below(model, 8) < model->add_bias;
    uint32_t total = 0;
    uint32_t pick;
    unsigned i = 0;

    for (unsigned j = 0; j < G_N_ELEMENTS(ops); j++) {
        total += filling ? ops[j].filling : ops[j].draining;
    }
    pick = below(model, total);
    while (pick >= (filling ? ops[i].filling : ops[i].draining)) {
        pick -= filling ? ops[i].filling : ops[i].draining;
        i++;
    }
    ops[i].op(model);
    g_assert_cmpuint(vhu_ring_in_flight(model->ring), ==,
                     model->num_popped + model->num_pushed);
    g_assert_cmpuint(vhu_driver_in_flight(model->queue), ==,
                     model->available.length + model->num_popped +
                         model->num_pushed + model->shown.length);
}

/* ---- Making one ---- */

Model *model_new(uint64_t features, uint32_t size, uint32_t seed)
{
    Model *model = g_new0(Model, 1);
    VhuDriverConfig *config = &model->config;
    uint64_t ring_bytes;
    VhuError err = {0};

    model->rand = g_rand_new_with_seed(seed);
    model->features = features;
    model->size = size;
    *config = (VhuDriverConfig){
        .size = size,
        .features = features,
        .addr = GUEST_BASE,
        .indirect_from = 1 + below(model, 4),
        .indirect_max = 4 + below(model, 5),
    };
    ring_bytes = vhu_driver_bytes(config);
    model->guest = guest_new(ring_bytes, (uint64_t)size * SLOT_BYTES);
    config->local = model->guest->local;
    config->bytes = ring_bytes;
    model->queue = vhu_driver_new(config, &err);
    g_assert_cmpstr(err.text, ==, "");
    start_device(model, guest_first_base(features));

    model->buffers = g_new0(ModelBuffer, size);
    for (uint32_t i = 0; i < size; i++) {
        uint64_t at = guest_data_at(ring_bytes) + (uint64_t)i * SLOT_BYTES;

        model->buffers[i].data = model->guest->local + at;
        model->buffers[i].addr = GUEST_BASE + at;
        g_queue_push_tail(&model->idle, &model->buffers[i]);
    }
    model->free_descs = size;
    model->driver_wish = (ModelWish){.always = true};
    if (has(model, VIRTIO_RING_F_EVENT_IDX) &&
        !has(model, VIRTIO_F_RING_PACKED)) {
        model->driver_wish = (ModelWish){.at = 0};
    }
    model->device_wish = model->driver_wish;
    return model;
}

void model_free(Model *model)
{
    vhu_ring_free(model->ring);
    vhu_driver_free(model->queue);
    guest_free(model->guest);
    g_queue_clear(&model->idle);
    g_queue_clear(&model->available);
    g_queue_clear(&model->popped);
    g_queue_clear(&model->pushed);
    g_queue_clear(&model->shown);
    g_free(model->buffers);
    g_rand_free(model->rand);
    g_free(model);
}
