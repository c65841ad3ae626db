/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the toy's queues: requests returned, held back, released. */
#include "tests/toy-internal.h"
#include "vhu/clock.h"

#define SOON_MS 50

static void give_back(Toy *toy, VhuQueue *queue, VhuElement *element)
{
    uint8_t *data = g_malloc(element->out_bytes + 1);
    const size_t bytes = vhu_element_read(element, 0, data, element->out_bytes);

    for (size_t i = 0; i < bytes / 2; i++) {
        const uint8_t swap = data[i];

        data[i] = data[bytes - 1 - i];
        data[bytes - 1 - i] = swap;
    }
    g_atomic_int_add(&toy->resubmitted, element->resubmitted);
    vhu_queue_push(queue, element,
                   (uint32_t)vhu_element_write(element, 0, data, bytes));
    g_atomic_int_inc(&toy->served);
    g_free(data);
}

VhuProcess toy_process(VhuQueue *queue, void *state)
{
    ToyConnection *connection = state;
    Toy *toy = connection->toy;
    ToyQueue *mine = &connection->queues[vhu_queue_index(queue)];
    VhuElement *element;

    while ((element = vhu_queue_pop(queue))) {
        if (g_atomic_int_get(&toy->hold)) {
            g_queue_push_tail(&mine->held, element);
            g_atomic_int_inc(&toy->held);
        } else {
            give_back(toy, queue, element);
        }
        if (toy->config.one_by_one) {
            vhu_queue_wake(queue);
            return VHU_PROCESS_BLOCKED;
        }
    }
    if (toy->config.emptied) {
        toy->config.emptied(toy->config.opaque);
    }
    return VHU_PROCESS_DONE;
}

VhuProcess toy_drop(VhuQueue *queue, void *state)
{
    VhuElement *element;

    (void)state;
    while ((element = vhu_queue_pop(queue))) {
        vhu_queue_push(queue, element, 0);
    }
    return VHU_PROCESS_DONE;
}

int toy_queue_start(VhuQueue *queue, void *state)
{
    toy_note(((ToyConnection *)state)->toy, "start %u", vhu_queue_index(queue));
    return 0;
}

void toy_queue_stop(VhuQueue *queue, void *state)
{
    ToyConnection *connection = state;
    Toy *toy = connection->toy;
    ToyQueue *mine = &connection->queues[vhu_queue_index(queue)];
    VhuElement *element;

    toy_note(toy, "stop %u", vhu_queue_index(queue));
    if (toy->config.stop == TOY_STOP_HANG) {
        return;
    }
    while ((element = g_queue_pop_head(&mine->held))) {
        g_atomic_int_add(&toy->held, -1);
        if (toy->config.stop == TOY_STOP_SUSPEND &&
            vhu_queue_may_suspend(queue)) {
            vhu_queue_suspend(queue, element);
        } else {
            give_back(toy, queue, element);
        }
    }
}

void toy_queue_stopped(VhuQueue *queue, void *state)
{
    toy_note(((ToyConnection *)state)->toy, "stopped %u",
             vhu_queue_index(queue));
}

/* ---- holding back ---- */

void toy_hold(Toy *toy, bool hold)
{
    g_atomic_int_set(&toy->hold, hold);
}

unsigned toy_held(Toy *toy)
{
    return (unsigned)g_atomic_int_get(&toy->held);
}

#define ALL_HELD UINT_MAX

typedef struct Release {
    ToyConnection *connection; /* a reference */
    unsigned index;
    unsigned nth; /* or ALL_HELD */
} Release;

/* On the queue's loop. */
static void run_release(void *opaque)
{
    Release *release = opaque;
    Toy *toy = release->connection->toy;
    ToyQueue *mine = &release->connection->queues[release->index];
    const unsigned nth = release->nth == ALL_HELD ? 0 : release->nth;
    VhuQueue *queue = NULL;
    VhuElement *element;

    while ((element = g_queue_pop_nth(&mine->held, nth))) {
        queue = vhu_connection_queue(release->connection->connection,
                                     release->index);
        g_atomic_int_add(&toy->held, -1);
        give_back(toy, queue, element);
        if (release->nth != ALL_HELD) {
            break;
        }
    }
    if (queue) {
        vhu_queue_flush(queue);
    }
    g_atomic_rc_box_release_full(release->connection, toy_free_connection);
    g_free(release);
}

static void post_release(ToyConnection *connection, unsigned index,
                         unsigned nth)
{
    VhuQueue *queue = vhu_connection_queue(connection->connection, index);
    Release *release = g_new0(Release, 1);

    release->connection = g_atomic_rc_box_acquire(connection);
    release->index = index;
    release->nth = nth;
    g_assert_cmpint(vhu_loop_post(vhu_queue_loop(queue), run_release, release),
                    ==, 0);
}

void toy_release(Toy *toy)
{
    for (unsigned i = 0; i < toy->connections->len; i++) {
        for (unsigned index = 0; index < toy->config.num_queues; index++) {
            post_release(g_ptr_array_index(toy->connections, i), index,
                         ALL_HELD);
        }
    }
}

void toy_release_soon(Toy *toy)
{
    vhu_timer_set(toy->soon, vhu_now_ms() + SOON_MS);
}

void toy_release_one(Toy *toy, unsigned nth)
{
    g_assert_cmpuint(toy->connections->len, >, 0);
    post_release(g_ptr_array_index(toy->connections, toy->connections->len - 1),
                 0, nth);
}
