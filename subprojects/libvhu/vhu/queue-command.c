/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what a queue's loop does when the control thread sends a command. Each
 * ends in vhu_command_done; STOP only when the device has given everything
 * back.
 */
#include "vhu/backend-internal.h"

#include "vhu/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* How often a ring without a kick fd is looked at. */
#define POLL_MS 1

static int take_fd(VhuQueueCommand *command)
{
    const int fd = command->fd;

    command->fd = -1;
    return fd;
}

/* ---- kicks ---- */

/*
 * Drain a kick fd without ever blocking: the front end shares the open file
 * and may change its flags or read it first.
 */
static ssize_t read_kick(int fd)
{
    uint64_t count;
    struct iovec iov = {.iov_base = &count, .iov_len = sizeof(count)};
    ssize_t got = preadv2(fd, &iov, 1, -1, RWF_NOWAIT);

    if (got < 0 && errno == EOPNOTSUPP) {
        got = read(fd, &count, sizeof(count));
    }
    return got;
}

static void on_kick(void *opaque, uint32_t events)
{
    VhuQueue *queue = opaque;
    const ssize_t got = read_kick(queue->run.kick_fd);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        vhu_connection_log(queue->connection, VHU_LOG_WARN,
                           "queue %u: kick fd is dead (events 0x%x)",
                           queue->index, events);
        vhu_watch_free(queue->run.kick_watch);
        queue->run.kick_watch = NULL;
        return;
    }
    queue->run.kicked = true;
    vhu_queue_run(queue);
}

static void on_poll(void *opaque)
{
    VhuQueue *queue = opaque;

    vhu_timer_set(queue->run.poll_timer, vhu_now_ms() + POLL_MS);
    vhu_queue_run(queue);
}

static void unwatch_kick(VhuQueue *queue)
{
    vhu_watch_free(queue->run.kick_watch);
    queue->run.kick_watch = NULL;
    vhu_fd_close(&queue->run.kick_fd);
    vhu_timer_free(queue->run.poll_timer);
    queue->run.poll_timer = NULL;
}

static void start_polling(VhuQueue *queue)
{
    queue->run.poll_timer = vhu_loop_timer(queue->loop, on_poll, queue);
    if (queue->run.poll_timer) {
        vhu_timer_set(queue->run.poll_timer, vhu_now_ms() + POLL_MS);
    }
}

static void watch_kick(VhuQueue *queue, int fd)
{
    VhuError err;

    queue->run.kick_fd = fd;
    queue->run.kick_watch =
        vhu_loop_watch(queue->loop, fd, EPOLLIN, on_kick, queue);
    if (!queue->run.kick_watch) {
        vhu_error_set(&err, errno, VHOST_USER_SET_VRING_KICK, (uint64_t)fd,
                      "kick fd cannot be watched: %s", strerror(errno));
        vhu_queue_break(queue, &err);
    }
}

/* ---- commands ---- */

void vhu_queue_do_arm(VhuQueue *queue, VhuQueueCommand *command)
{
    const bool fresh = !queue->run.armed;
    const int fd = take_fd(command);

    unwatch_kick(queue);
    if (fresh) {
        queue->run.setup = command->setup;
        command->setup = (VhuQueueSetup){0};
        queue->run.armed = true;
        queue->run.broken = false;
        queue->run.stalled = false;
        queue->run.iotlb_wait = false;
        queue->run.missing = false;
        queue->run.kicked = queue->run.setup.resumed;
    }
    if (fd >= 0) {
        watch_kick(queue, fd);
    } else if (command->flag) {
        queue->run.kicked = true;
        start_polling(queue);
    }
    vhu_queue_run(queue);
    vhu_command_done(command);
}

void vhu_queue_do_kick(VhuQueue *queue, VhuQueueCommand *command)
{
    queue->run.kicked = true;
    vhu_queue_run(queue);
    vhu_command_done(command);
}

/* Whether an IOTLB message is about the miss that was told. */
static bool answers_miss(const VhuQueue *queue, const VhuIotlbMsg *iotlb)
{
    return queue->run.missed.iova >= iotlb->iova &&
           queue->run.missed.iova - iotlb->iova < iotlb->size;
}

/* Memory or IOTLB changed: other snapshot, the same ring addresses. */
void vhu_queue_do_memory(VhuQueue *queue, VhuQueueCommand *command)
{
    if (queue->run.armed) {
        VhuMemory *old = queue->run.setup.memory;

        queue->run.setup.memory = command->setup.memory;
        queue->run.setup.addr = command->setup.addr;
        command->setup.memory = old;
        queue->run.missing &= !answers_miss(queue, &command->iotlb);
        vhu_queue_refresh(queue);
        vhu_queue_run(queue);
    }
    vhu_command_done(command);
}

void vhu_queue_do_log(VhuQueue *queue, VhuQueueCommand *command)
{
    const VhuQueueLog old = queue->run.log;

    queue->run.log = command->log;
    command->log = old;
    if (queue->run.ring) {
        const VhuQueueLog *log = &queue->run.log;

        vhu_ring_set_log(queue->run.ring, log->log, log->used, log->addr);
    }
    vhu_command_done(command);
}

void vhu_queue_do_call(VhuQueue *queue, VhuQueueCommand *command)
{
    vhu_fd_close(&queue->run.call_fd);
    queue->run.call_fd = take_fd(command);
    vhu_command_done(command);
}

void vhu_queue_do_err(VhuQueue *queue, VhuQueueCommand *command)
{
    vhu_fd_close(&queue->run.err_fd);
    queue->run.err_fd = take_fd(command);
    vhu_command_done(command);
}

void vhu_queue_do_enable(VhuQueue *queue, VhuQueueCommand *command)
{
    queue->run.enabled = command->flag;
    vhu_queue_run(queue);
    vhu_command_done(command);
}

/* ---- stopping ---- */

/* With the last answer the control thread may free the queue: it is not
 * touched after the list was taken. */
static void answer_stops(VhuQueue *queue, uint32_t base, bool started)
{
    VhuQueueCommand *command = queue->run.stop;

    queue->run.stop = NULL;
    while (command) {
        VhuQueueCommand *next = command->next;

        command->base = base;
        command->started = started;
        started = false; /* counted once, whoever else waited */
        vhu_command_done(command);
        command = next;
    }
}

static void disarm(VhuQueue *queue)
{
    vhu_setup_release(&queue->run.setup);
    vhu_parts_release(&queue->run.parts);
    queue->run.armed = false;
    queue->run.kicked = false;
    queue->run.broken = false;
    queue->run.draining = false;
    queue->run.stopping = false;
    queue->run.abandon = false;
    queue->run.may_suspend = false;
}

/* All elements are back: the ring goes, and those who asked are told. */
static void finish_stop(void *opaque)
{
    VhuQueue *queue = opaque;
    const VhuDeviceOps *ops = queue->connection->backend->info.ops;
    uint32_t base;

    queue->run.finish_posted = false;
    if (!queue->run.abandon) {
        vhu_queue_flush(queue);
    }
    base = vhu_ring_base(queue->run.ring);
    if (ops->queue_stopped) {
        ops->queue_stopped(queue, queue->connection->state);
    }
    vhu_ring_free(queue->run.ring);
    queue->run.ring = NULL;
    queue->run.data = NULL;
    disarm(queue);
    answer_stops(queue, base, true);
}

void vhu_queue_finish_if_idle(VhuQueue *queue)
{
    if (queue->run.stopping && queue->run.held == 0 &&
        !queue->run.finish_posted &&
        vhu_loop_post(queue->loop, finish_stop, queue) == 0) {
        queue->run.finish_posted = true;
    }
}

void vhu_queue_begin_stop(VhuQueue *queue)
{
    const VhuDeviceOps *ops = queue->connection->backend->info.ops;

    queue->run.draining = false;
    queue->run.stopping = true;
    if (ops->queue_stop && queue->run.held > 0) {
        ops->queue_stop(queue, queue->connection->state);
    }
    vhu_queue_finish_if_idle(queue);
}

void vhu_queue_do_stop(VhuQueue *queue, VhuQueueCommand *command)
{
    unwatch_kick(queue);
    command->next = queue->run.stop;
    queue->run.stop = command;
    if (!queue->run.ring) {
        const uint32_t base =
            queue->run.armed ? queue->run.setup.base : command->base;

        disarm(queue);
        answer_stops(queue, base, false);
        return;
    }
    queue->run.abandon |= command->flag;
    queue->run.may_suspend |= command->may_suspend;
    if (!queue->run.stopping && vhu_queue_must_resubmit(queue)) {
        queue->run.draining = true;
        vhu_queue_run(queue);
    } else {
        vhu_queue_begin_stop(queue);
    }
}
