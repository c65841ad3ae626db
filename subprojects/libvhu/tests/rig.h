/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver and its guest for tests: guest memory in a memfd, a front-end
 * session, driver queues, kicks and calls. What is expected not to fail ends
 * the test with a message if it does; what may fail says so.
 *
 *     Rig *rig = rig_new(&(RigConfig){.features = RIG_BIT(VIRTIO_BLK_F_MQ)});
 *
 *     rig_connect(rig, socket);
 *     rig_start(rig);
 *
 *     RigRequest *r = rig_request(rig, 0);
 *     rig_out(r, &header, sizeof(header));
 *     uint8_t *data = rig_in(r, 512);
 *     uint8_t *status = rig_in(r, 1);
 *     g_assert_cmpuint(rig_do(r), ==, 513);
 *     g_assert_cmpuint(*status, ==, VIRTIO_BLK_S_OK);
 *     rig_request_free(r);
 *
 *     rig_stop(rig);
 *     rig_free(rig);
 *
 * One thread. Waiting never outlasts RigConfig.timeout_ms and turns the
 * session and, if there is one, the loop of a back end in this process.
 *
 * The environment variable VHU_MASK_FRONTEND, a bit number, keeps sessions
 * from negotiating that protocol feature: a test that proves the feature
 * fails then. VHU_TRACE=1 shows every message on standard error.
 */
#ifndef VHU_TESTS_RIG_H
#define VHU_TESTS_RIG_H

#include "vhu/driver.h"
#include "vhu/frontend.h"
#include "vhu/loop.h"

#include <glib.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <sys/types.h>

#define RIG_BIT(bit) (1ULL << (bit))

/* Where things are: no two address spaces agree on anything. */
#define RIG_GUEST_BASE 0x40000000ULL     /* guest physical */
#define RIG_USER_BASE  0x7e0000000000ULL /* in the "front end" */
#define RIG_IOVA_BASE  0x900000000ULL    /* with ACCESS_PLATFORM */

#define RIG_MAX_PIECES 128u

typedef struct Rig Rig;

/* All zero is one split queue of 64 entries in 16 MiB, VERSION_1. */
typedef struct RigConfig {
    uint64_t features; /* to acknowledge beside VERSION_1; if one is not
                          offered, rig_connect fails the test */
    bool legacy;       /* without VERSION_1 */
    bool without_protocol_features; /* SET_FEATURES without bit 30 */
    uint64_t protocol_masked;       /* protocol features to do without */
    bool inband;                    /* kicks and calls by message */
    bool polling;              /* no calls wanted: the rig looks at its rings */
    bool inflight;             /* keep an inflight buffer */
    bool suspends;             /* negotiate GET_VRING_BASE_INFLIGHT */
    unsigned num_queues;       /* 0: 1 */
    uint32_t queue_size;       /* 0: 64 */
    uint32_t inflight_size;    /* the buffer is asked for; 0: queue_size */
    uint32_t indirect_from;    /* 0: 1 if INDIRECT_DESC is acknowledged */
    uint64_t memory_bytes;     /* 0: 16 MiB */
    unsigned num_regions;      /* memory is cut into; 0: 1 */
    uint64_t iotlb_bytes;      /* of one IOTLB entry; 0: 4096 */
    int timeout_ms;            /* of every wait and request; 0: 10 s */
    VhuLoop *loop;             /* of a back end here; NULL: none */
    const VhuFrontendOps *ops; /* shared objects, shmem, errors: the test's own,
                                  with its opaque; NULL: none */
} RigConfig;

/* ---- connections ---- */

/** Make guest memory, a session and the driver's queues in it. */
Rig *rig_new(const RigConfig *config);

/** Disconnect, free everything, requests included. @rig: may be NULL. */
void rig_free(Rig *rig);

/** Connect to a socket, negotiate, set features, memory and inflight. Queues
 * do not run yet. */
void rig_connect(Rig *rig, const char *path);

/** The same on a socket that is connected already; the rig owns it. */
void rig_attach(Rig *rig, int fd);

/** As rig_attach, but a failure is returned: 0, or -errno with @err. */
int rig_try_attach(Rig *rig, int fd, VhuError *err);

/** Connect again after the back end was lost, and start all queues that ran
 * from where the driver stands. What was in flight stays in flight. */
void rig_reconnect(Rig *rig, const char *path);

/** The same on a connected socket. */
void rig_reattach(Rig *rig, int fd);

/** Set up, kick and enable all queues. */
void rig_start(Rig *rig);

/** The same of one queue. */
void rig_start_queue(Rig *rig, unsigned index);

/** Stop all queues and keep their bases for the next rig_start. */
void rig_stop(Rig *rig);

/** Set up one queue: everything but kick and enable. */
void rig_setup_queue(Rig *rig, unsigned index);

/** SET_VRING_ENABLE of one queue. */
void rig_enable_queue(Rig *rig, unsigned index, bool enable);

/** GET_VRING_BASE of one queue; kept for rig_setup_queue. Returns it. */
uint32_t rig_stop_queue(Rig *rig, unsigned index);

/** The device was reset: lay all queues out anew. Nothing is in flight. */
void rig_forget_queues(Rig *rig);

/** Close our end, as a front end that dies. The session can be attached
 * again. */
void rig_disconnect(Rig *rig);

/** Wait until the back end has closed the connection.
 * @err: filled with why; may be NULL. */
void rig_wait_closed(Rig *rig, VhuError *err);

/** The same socket pair as a rig_attach would get. @peer: the other end. */
int rig_socketpair(int *peer);

/* ---- what the rig is made of, borrowed ---- */

VhuFrontend *rig_session(Rig *rig);
VhuDriverQueue *rig_queue(Rig *rig, unsigned index);
const RigConfig *rig_config(const Rig *rig);

/** Features acknowledged, VERSION_1 included. */
uint64_t rig_features(const Rig *rig);

/** The eventfds of a queue. */
int rig_kick_fd(Rig *rig, unsigned index);
int rig_call_fd(Rig *rig, unsigned index);
int rig_err_fd(Rig *rig, unsigned index);

/** The memfd of guest memory. */
int rig_memory_fd(Rig *rig);

/* ---- guest memory ---- */

/** Zeroed guest memory, aligned to @bytes rounded up to a power of two, at
 * most to 4096; NULL never. */
void *rig_alloc(Rig *rig, size_t bytes);

/** Give it back. @data: of rig_alloc, may be NULL. */
void rig_release(Rig *rig, void *data);

/** As the device addresses it: guest physical, or IOVA. */
VhuGuestAddr rig_addr(const Rig *rig, const void *data);

/** Guest physical address. */
VhuGuestAddr rig_guest_addr(const Rig *rig, const void *data);

/** Where a guest physical address is in this process. */
void *rig_local(Rig *rig, VhuGuestAddr addr);

/** Bytes of guest memory, and of one region of it. */
uint64_t rig_memory_bytes(const Rig *rig);
uint64_t rig_region_bytes(const Rig *rig);

/** A region, as the back end was told. @index: below num_regions. */
VhuMemRegion rig_region(const Rig *rig, unsigned index);

/** Truncate the file of guest memory: whoever else maps it loses it. What is
 * in flight never comes back. */
void rig_truncate_memory(Rig *rig);

/* ---- requests: buffers of a queue ---- */

typedef struct RigRequest {
    Rig *rig;
    unsigned queue;
    uint32_t written; /* bytes, once it was used */
    bool submitted;
    bool used;
    void *user; /* the test's own */
    /*< private >*/
    VhuPiece out[RIG_MAX_PIECES];
    VhuPiece in[RIG_MAX_PIECES];
    void *out_data[RIG_MAX_PIECES];
    void *in_data[RIG_MAX_PIECES];
    unsigned num_out;
    unsigned num_in;
} RigRequest;

/** A request for a queue. */
RigRequest *rig_request(Rig *rig, unsigned queue);

/** Append a piece the device reads: a copy of @data (NULL: zeroes). Returns
 * the copy in guest memory. */
void *rig_out(RigRequest *request, const void *data, size_t bytes);

/** Append a piece the device writes, filled with 0xa5. Returns it. */
void *rig_in(RigRequest *request, size_t bytes);

/** Append a piece at an address of the test's choice. */
void rig_out_at(RigRequest *request, VhuGuestAddr addr, uint32_t bytes);
void rig_in_at(RigRequest *request, VhuGuestAddr addr, uint32_t bytes);

/** Make it available and kick if the device wants it. */
void rig_submit(RigRequest *request);

/** Make it available without a kick. Returns 0, or -ENOSPC. */
int rig_submit_quietly(RigRequest *request);

/** Kick a queue, if the device wants it or @force. */
void rig_kick(Rig *rig, unsigned index, bool force);

/** Wait until it is used. Returns the bytes written. */
uint32_t rig_wait(RigRequest *request);

/** rig_submit and rig_wait. */
uint32_t rig_do(RigRequest *request);

/**
 * The next request that was used, in the order the rig saw it, or NULL.
 * @queue:      of this queue, -1: of any
 * @timeout_ms: how long to wait for one; 0: not
 * NULL also once the connection is closed and nothing is left.
 */
RigRequest *rig_next_used(Rig *rig, int queue, int timeout_ms);

/** Free it with its memory. @request: may be NULL; not while in flight: those
 * that a back end never returned are freed by rig_free. */
void rig_request_free(RigRequest *request);

/** Requests submitted and not used, over all queues. */
unsigned rig_in_flight(const Rig *rig);

/** Notifications received from the device, by eventfd or message. */
uint64_t rig_calls(const Rig *rig, unsigned queue);

/* ---- waiting ---- */

typedef bool (*RigCondition)(void *opaque);

/** Turn everything until @done says so. Returns false after @timeout_ms. */
bool rig_until(Rig *rig, RigCondition done, void *opaque, int timeout_ms);

/**
 * Wait for an operation of the session:
 *     rc = rig_op(rig, vhu_frontend_ask(rig_session(rig), ..,
 *                                       vhu_wait_then(&w), &w.err), &w);
 * Returns its result; w.reply and w.err say more (vhu_wait_clear it).
 */
int rig_op(Rig *rig, int started, VhuWait *wait);

/** Send any message and wait for its end. @reply: may be NULL; else
 * vhu_message_close_fds it. Returns 0 or -errno. */
int rig_call(Rig *rig, const VhuMessage *msg, VhuMessage *reply);

/** Send a request with a u64 and wait. Returns 0 or -errno. */
int rig_call_u64(Rig *rig, uint32_t request, uint64_t value);

/** Ask a request without payload for a u64; it must be answered. */
uint64_t rig_ask_u64(Rig *rig, uint32_t request);

/* ---- configuration space ---- */

/** Read; must succeed. */
void rig_get_config(Rig *rig, uint32_t offset, void *data, uint32_t bytes);

/** Write as the driver. Returns 0, or -EREMOTEIO if refused. */
int rig_set_config(Rig *rig, uint32_t offset, const void *data, uint32_t bytes);

/** Configuration changes the back end has told of so far. */
unsigned rig_config_changes(const Rig *rig);

/** Wait until there were more than @seen. */
void rig_wait_config_change(Rig *rig, unsigned seen);

/* ---- IOTLB ---- */

/** Misses the rig has served. */
unsigned rig_iotlb_misses(const Rig *rig);

/** Invalidate a range in the back end. @addr: IOVA; @bytes: size. */
void rig_iotlb_invalidate(Rig *rig, VhuGuestAddr addr, uint64_t bytes);

/** Answer misses (default), or only count them. */
void rig_iotlb_serve(Rig *rig, bool serve);

/* ---- every way to lay a ring ---- */

typedef void (*RigMatrixFn)(const RigConfig *config);

/**
 * Add one test for each combination of split or packed, INDIRECT_DESC,
 * EVENT_IDX, IN_ORDER and ACCESS_PLATFORM, and some of GPA_ADDRESSES, INBAND,
 * NOTIFY_ON_EMPTY and legacy: "/blk/read-back/packed+indirect+event-idx".
 * @path: "/blk/read-back"
 * @fn:   runs with the combination; it may change a copy of it
 */
void rig_add_matrix(const char *path, RigMatrixFn fn);

/* ---- daemons ---- */

typedef struct RigDaemon RigDaemon;

/**
 * Start a daemon and wait until its socket takes connections.
 * @argv: program and options, ended by NULL; --socket-path is added
 */
RigDaemon *rig_daemon_spawn(const char *const *argv);

/** Start any program, --socket-path not added, nothing waited for. */
RigDaemon *rig_daemon_run(const char *const *argv);

/** Start it again after it ended: same options, same socket. */
void rig_daemon_respawn(RigDaemon *daemon);

/** Kill it if it runs, remove its folder. @daemon: may be NULL. */
void rig_daemon_free(RigDaemon *daemon);

/** A folder of its own, removed with it; the socket is in it. */
const char *rig_daemon_folder(const RigDaemon *daemon);
const char *rig_daemon_socket(const RigDaemon *daemon);

/** Its process id, 0 when it has ended. */
pid_t rig_daemon_pid(const RigDaemon *daemon);

/** Send a signal. */
void rig_daemon_signal(RigDaemon *daemon, int signal);

/** SIGKILL, and wait for the end. */
void rig_daemon_kill(RigDaemon *daemon);

/** Wait for its end. Returns the exit status, or 128 + the signal. */
int rig_daemon_wait(RigDaemon *daemon, int timeout_ms);

/** What it has written to standard output, or error; borrowed until the next
 * call. */
const char *rig_daemon_output(RigDaemon *daemon);
const char *rig_daemon_errors(RigDaemon *daemon);

/** Wait until its standard error holds @text. */
void rig_daemon_expect_error(RigDaemon *daemon, const char *text);

/** Open file descriptors, and anonymous resident memory in KiB, of a
 * process; 0: this one. */
unsigned rig_count_fds(pid_t pid);
unsigned rig_anonymous_kib(pid_t pid);

/** Whether the latter tells of leaks: not under valgrind, nor in a program
 * built with a sanitizer. Those find leaks themselves. */
bool rig_memory_is_plain(void);

/** Whether this runs under valgrind, which runs one thread at a time. */
bool rig_is_valgrind(void);

#endif
