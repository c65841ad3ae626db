/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The front-end session: what the side that owns the guest's memory keeps of
 * one back end. It survives the sockets it talks over: attach one, lose it,
 * attach the next.
 *
 * Nothing here waits. The owner watches one fd (vhu_frontend_fd) for reading
 * and calls vhu_frontend_dispatch; requests are pipelined, replies matched in
 * order, and each request ends by its deadline. An operation that returns 0
 * calls its VhuThen exactly once; one that returns -errno never does. All
 * callbacks come from inside vhu_frontend_dispatch, vhu_frontend_wait,
 * vhu_frontend_close and vhu_frontend_free, never from inside an operation.
 * A session is used by one thread at a time.
 *
 * How a request ended (result of VhuDoneFn, -VhuError.code):
 *   0            answered with success; or, where no answer is due, sent
 *   -EREMOTEIO   refused: the back end answered that it failed; the session
 *                goes on. VhuError.value is what it answered
 *   -ETIMEDOUT   not answered in time    }
 *   -ECONNRESET  the back end is gone    } the connection is closed
 *   -EPROTO      answered another request, or sent what is not allowed }
 *   -EBADMSG     the reply is too short, too long or malformed         }
 *   -ECANCELED   vhu_frontend_close or vhu_frontend_free came first
 * An operation itself may return, without anything having been sent:
 *   -ENOTCONN    no socket is attached, or it is not negotiated yet
 *   -EOPNOTSUPP  the protocol feature it needs is not negotiated
 *   -EINVAL      not a legal message, an index or a size out of range
 *   -ENOBUFS     VHU_FRONTEND_MAX_PENDING requests wait already
 *   -ENOMEM, or -errno of dup, pipe, mmap, ...
 */
#ifndef VHU_FRONTEND_H
#define VHU_FRONTEND_H

#include "vhu/channel.h"
#include "vhu/memory.h"

typedef struct VhuFrontend VhuFrontend;

/* Time a request has, unless the session or the operation says otherwise. */
#define VHU_FRONTEND_TIMEOUT_MS 10000
/* Requests that may wait for the socket or for a reply. */
#define VHU_FRONTEND_MAX_PENDING 4096u
/* Device state accepted from a back end, bytes. */
#define VHU_FRONTEND_MAX_STATE_BYTES (256u * 1024u * 1024u)

/* ---- how operations end ---- */

/**
 * An operation has ended.
 * @result: 0 or -errno, see above
 * @reply:  the (last) reply on 0 and on -EREMOTEIO if there was one, else
 *          NULL; take fds with vhu_message_take_fd, the rest is closed after
 * @err:    the reason of a failure, else code 0; never NULL
 */
typedef void (*VhuDoneFn)(void *opaque, int result, VhuMessage *reply,
                          const VhuError *err);

/* What to do when an operation ends; copied. NULL instead of it: nothing. */
typedef struct VhuThen {
    VhuDoneFn fn;
    void *opaque;
    int timeout_ms; /* 0: the session's */
    bool no_ack;    /* do not set need_reply, even if REPLY_ACK allows it */
} VhuThen;

/* ---- the session ---- */

/*
 * What the owner hears. The requests of the back end return 0, -errno to
 * refuse (the back end is answered non-zero if it wants to know), or
 * -EINPROGRESS: then vhu_frontend_answer follows, and until it does no other
 * request of the back end is taken. NULL: the feature behind it is not
 * negotiated.
 */
typedef struct VhuFrontendOps {
    /* Negotiated; on a reconnection the features, inflight buffer, memory
     * and log that were set before have been sent again (@again): vrings,
     * IOTLB and status are the owner's to restore. */
    void (*ready)(void *opaque, bool again);

    /* The connection ended, all its requests have been completed. @err: why.
     * vhu_frontend_attach may be called from here. */
    void (*closed)(void *opaque, const VhuError *err);

    /* IOTLB miss: call vhu_frontend_iotlb_update before returning 0, or do
     * nothing if @iova is not mapped. BACKEND_REQ, needed by ACCESS_PLATFORM.
     * vhost-user, "IOMMU support". */
    int (*iotlb_miss)(void *opaque, VhuGuestAddr iova, uint8_t perm);

    /* The device was denied an access. May be NULL: logged by nobody. */
    int (*iotlb_fault)(void *opaque, VhuGuestAddr iova, uint8_t perm);

    /* Configuration space changed. May be NULL: answered, not heard. */
    int (*config_changed)(void *opaque);

    /* INBAND_NOTIFICATIONS: buffers of a vring were used; a vring is in
     * error (may be NULL). */
    int (*vring_call)(void *opaque, uint32_t index);
    int (*vring_err)(void *opaque, uint32_t index);

    /* SHARED_OBJECT: all three or none. A lookup fills @fd, which the session
     * closes once it is sent. */
    int (*shared_object_add)(void *opaque, const VhuUuid *uuid);
    int (*shared_object_remove)(void *opaque, const VhuUuid *uuid);
    int (*shared_object_lookup)(void *opaque, const VhuUuid *uuid, int *fd);

    /* SHMEM: both or none. @fd is borrowed. */
    int (*shmem_map)(void *opaque, const VhuShmemMap *map, int fd);
    int (*shmem_unmap)(void *opaque, const VhuShmemMap *map);

    VhuTraceFn trace; /* every message of both sockets; may be NULL */
    void *opaque;     /* for all of these */
} VhuFrontendOps;

typedef struct VhuFrontendConfig {
    const char *name;           /* for messages: "vhost-user-rng 'rng0'" */
    uint64_t protocol_masked;   /* protocol features not to negotiate */
    uint64_t protocol_required; /* without these, negotiation fails */
    bool suspends;  /* negotiate GET_VRING_BASE_INFLIGHT: what is in flight may
                       stay in the inflight buffer when a vring stops */
    int timeout_ms; /* per request; 0: VHU_FRONTEND_TIMEOUT_MS */
} VhuFrontendConfig;

/**
 * Make a session, not connected.
 * @config: copied, with the name
 * @ops:    copied; may be NULL
 * @err:    may be NULL
 * Returns it, or NULL.
 */
VHU_API VhuFrontend *vhu_frontend_new(const VhuFrontendConfig *config,
                                      const VhuFrontendOps *ops, VhuError *err);

/**
 * Close the connection as vhu_frontend_close does, free everything.
 * @session: may be NULL; not from inside a callback of it
 */
VHU_API void vhu_frontend_free(VhuFrontend *session);

/**
 * Take over a connected socket and start to negotiate: GET_FEATURES,
 * GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
 * GET_MAX_MEM_SLOTS, SET_BACKEND_REQ_FD, SET_OWNER (those that apply), then
 * on a reconnection SET_FEATURES, SET_INFLIGHT_FD, SET_LOG_BASE and the
 * memory, then ops->ready. If any of it fails, ops->closed says why: a back
 * end that comes back without a feature in use is refused.
 * @fd: owned by the session from here on, even on failure
 * Returns 0, -EISCONN if a socket is attached, or -errno.
 * vhost-user, "Communication", "Protocol features".
 */
VHU_API int vhu_frontend_attach(VhuFrontend *session, int fd, VhuError *err);

/**
 * Connect to a listening Unix socket and attach it.
 * @path: of the socket
 * Returns as vhu_frontend_attach, or -errno of connect; does not wait.
 */
VHU_API int vhu_frontend_connect(VhuFrontend *session, const char *path,
                                 VhuError *err);

/**
 * Close the connection: everything pending ends with -ECANCELED, then
 * ops->closed is called. The back end may still have guest memory mapped.
 * @why: given on to ops->closed; may be NULL
 */
VHU_API void vhu_frontend_close(VhuFrontend *session, const VhuError *why);

/** The fd to watch for reading: there is work for vhu_frontend_dispatch,
 * messages, deadlines and transfers alike. It never changes. */
VHU_API int vhu_frontend_fd(const VhuFrontend *session);

/** Do what can be done now, without waiting. */
VHU_API void vhu_frontend_dispatch(VhuFrontend *session);

/** When the earliest pending deadline is (CLOCK_MONOTONIC, ms); -1: none.
 * For information: vhu_frontend_fd covers it. */
VHU_API int64_t vhu_frontend_deadline_ms(const VhuFrontend *session);

typedef enum VhuFrontendPhase {
    VHU_FRONTEND_DETACHED,    /* no socket */
    VHU_FRONTEND_NEGOTIATING, /* until ops->ready */
    VHU_FRONTEND_READY,
} VhuFrontendPhase;

typedef struct VhuFrontendCounters {
    uint64_t connections;      /* sockets attached */
    uint64_t requests;         /* sent */
    uint64_t replies;          /* received */
    uint64_t refused;          /* of them, not zero */
    uint64_t timeouts;         /* requests that were not answered in time */
    uint64_t protocol_errors;  /* connections ended by EPROTO or EBADMSG */
    uint64_t backend_requests; /* received on the back-end channel */
    uint64_t iotlb_misses;     /* of them */
    int64_t slowest_ms;        /* longest time to a reply */
    uint32_t slowest_request;  /* and what it answered; 0: none yet */
} VhuFrontendCounters;

typedef struct VhuFrontendInfo {
    VhuFrontendPhase phase;
    uint64_t features_offered;  /* by GET_FEATURES, bit 30 included */
    uint64_t features;          /* of the last SET_FEATURES */
    uint64_t protocol_offered;  /* by GET_PROTOCOL_FEATURES */
    uint64_t protocol_features; /* negotiated */
    uint64_t max_queues;        /* by GET_QUEUE_NUM; 0: not told, no MQ */
    uint64_t max_mem_slots;     /* usable: 8 without CONFIGURE_MEM_SLOTS */
    uint32_t pending;           /* requests not completed */
    VhuFrontendCounters counters;
} VhuFrontendInfo;

/** What is known of the back end, and counters; those last the session. */
VHU_API const VhuFrontendInfo *vhu_frontend_info(const VhuFrontend *session);

/** Whether a protocol feature is negotiated. @bit: VHOST_USER_PROTOCOL_F_* */
VHU_API bool vhu_frontend_has(const VhuFrontend *session, unsigned bit);

/* ---- any request ---- */

/**
 * Send any request of the table that has no operation of its own below
 * (GET_STATUS, RESET_DEVICE, GET_CONFIG, POSTCOPY_ADVISE, GPU_SET_SOCKET, ...).
 * need_reply is set where REPLY_ACK is negotiated and no reply is due anyway.
 * @msg:  copied, the fds duplicated; flags are ignored
 * Nothing is remembered for a reconnection.
 */
VHU_API int vhu_frontend_request(VhuFrontend *session, const VhuMessage *msg,
                                 const VhuThen *then, VhuError *err);

/** A request without payload. */
VHU_API int vhu_frontend_ask(VhuFrontend *session, uint32_t request,
                             const VhuThen *then, VhuError *err);

/** A request with a u64. */
VHU_API int vhu_frontend_ask_u64(VhuFrontend *session, uint32_t request,
                                 uint64_t value, const VhuThen *then,
                                 VhuError *err);

/* ---- features, memory, log, inflight: remembered for a reconnection ---- */

/**
 * SET_FEATURES. Where the back end offers F_PROTOCOL_FEATURES it is added, so
 * that rings start disabled.
 * @features: a subset of features_offered
 * Returns also -EINVAL for a bit not offered.
 */
VHU_API int vhu_frontend_set_features(VhuFrontend *session, uint64_t features,
                                      const VhuThen *then, VhuError *err);

/* Guest memory; both arrays have num entries. */
typedef struct VhuFrontendMemory {
    const VhuMemRegion *regions;
    const int *fds;
    uint32_t num;
} VhuFrontendMemory;

/**
 * Make this the memory of the back end: with CONFIGURE_MEM_SLOTS by
 * REM_MEM_REG and ADD_MEM_REG of what differs, otherwise by SET_MEM_TABLE.
 * While postcopy listens, user addresses at the back end are in the reply
 * (table of the last message) and in vhu_frontend_backend_addr.
 * @memory: copied, the fds duplicated
 * Returns also -ENOSPC past max_mem_slots.
 * vhost-user, "Memory access".
 */
VHU_API int vhu_frontend_set_memory(VhuFrontend *session,
                                    const VhuFrontendMemory *memory,
                                    const VhuThen *then, VhuError *err);

/** Where the back end said, while postcopy listens, that it mapped a region:
 * its address, or 0. @index: as in the last vhu_frontend_set_memory. */
VHU_API VhuUserAddr vhu_frontend_backend_addr(const VhuFrontend *session,
                                              uint32_t index);

/**
 * SET_LOG_BASE. The log is written only once SET_FEATURES has VHOST_F_LOG_ALL.
 * @fd:   duplicated
 * @area: size and offset in bytes
 * vhost-user, "Migration".
 */
VHU_API int vhu_frontend_set_log(VhuFrontend *session, int fd,
                                 const VhuLogArea *area, const VhuThen *then,
                                 VhuError *err);

/**
 * The inflight buffer: the first time GET_INFLIGHT_FD, then SET_INFLIGHT_FD
 * with what came; the buffer is kept and sent again on a reconnection. To be
 * called after SET_FEATURES, before vrings start.
 * @num_queues, @queue_size: as the back end shall lay it out
 * Returns also -EBUSY while GET_INFLIGHT_FD runs.
 * vhost-user, "Inflight I/O tracking".
 */
VHU_API int vhu_frontend_set_inflight(VhuFrontend *session, uint16_t num_queues,
                                      uint16_t queue_size, const VhuThen *then,
                                      VhuError *err);

/** The inflight buffer kept: its fd, borrowed, or -1; @area: filled, may be
 * NULL. */
VHU_API int vhu_frontend_inflight(const VhuFrontend *session,
                                  VhuInflightArea *area);

/** Keep a buffer that came from elsewhere (a migration) instead.
 * @fd: duplicated. It is sent by the next vhu_frontend_set_inflight. */
VHU_API int vhu_frontend_keep_inflight(VhuFrontend *session, int fd,
                                       const VhuInflightArea *area,
                                       VhuError *err);

/** Forget the inflight buffer: the device was reset. */
VHU_API void vhu_frontend_drop_inflight(VhuFrontend *session);

/* ---- vrings ---- */

typedef struct VhuFrontendVring {
    uint32_t size;       /* entries */
    uint32_t base;       /* split: index; packed: both positions */
    VhuGuestAddr desc;   /* as the driver programmed them: guest physical, */
    VhuGuestAddr driver; /* or IOVA with ACCESS_PLATFORM; the session */
    VhuGuestAddr device; /* translates to what the back end expects */
    bool log_used;       /* VHOST_VRING_F_LOG: log writes to the used ring */
    VhuGuestAddr log_addr;
    int kick; /* eventfds, duplicated; -1: none (polling, or in-band) */
    int call;
    int err; /* -1: not sent at all */
} VhuFrontendVring;

/**
 * Set a vring up: SET_VRING_NUM, BASE, ADDR, ERR, CALL, KICK. It runs once
 * it is kicked and enabled.
 * @index: of the vring
 * Returns also -EFAULT for an address in no region of the memory set.
 * vhost-user, "Ring states".
 */
VHU_API int vhu_frontend_start_vring(VhuFrontend *session, uint32_t index,
                                     const VhuFrontendVring *vring,
                                     const VhuThen *then, VhuError *err);

/** SET_VRING_ADDR alone, to switch logging of the used ring while it runs. */
VHU_API int vhu_frontend_set_vring_addr(VhuFrontend *session, uint32_t index,
                                        const VhuFrontendVring *vring,
                                        const VhuThen *then, VhuError *err);

/** SET_VRING_ENABLE. @index: of the vring. */
VHU_API int vhu_frontend_enable_vring(VhuFrontend *session, uint32_t index,
                                      bool enable, const VhuThen *then,
                                      VhuError *err);

/** GET_VRING_BASE: stop a vring; its base is payload.state.num of the reply.
 * It may take as long as what is in flight: give it the time. */
VHU_API int vhu_frontend_stop_vring(VhuFrontend *session, uint32_t index,
                                    const VhuThen *then, VhuError *err);

/**
 * SET_VRING_KICK, SET_VRING_CALL or SET_VRING_ERR alone.
 * @request: which of the three
 * @index:   of the vring
 * @fd:      duplicated; -1: none
 */
VHU_API int vhu_frontend_set_vring_fd(VhuFrontend *session, uint32_t request,
                                      uint32_t index, int fd, VhuError *err);

/** VRING_KICK, with INBAND_NOTIFICATIONS. */
VHU_API int vhu_frontend_kick_vring(VhuFrontend *session, uint32_t index,
                                    const VhuThen *then, VhuError *err);

/* ---- configuration space, status ---- */

/** GET_CONFIG: payload.config.data of the reply. @offset, @size: bytes. */
VHU_API int vhu_frontend_get_config(VhuFrontend *session, uint32_t offset,
                                    uint32_t size, const VhuThen *then,
                                    VhuError *err);

/**
 * SET_CONFIG.
 * @area: offset, size, flags (0: the driver writes, 1: migration) and data
 */
VHU_API int vhu_frontend_set_config(VhuFrontend *session,
                                    const VhuConfigArea *area,
                                    const VhuThen *then, VhuError *err);

/* ---- IOTLB, shared objects ---- */

/**
 * IOTLB_MSG: update or invalidate.
 * @msg: type VHOST_IOTLB_UPDATE (user_addr is the front end's) or
 *       VHOST_IOTLB_INVALIDATE
 * vhost-user, "IOMMU support".
 */
VHU_API int vhu_frontend_iotlb(VhuFrontend *session, const VhuIotlbMsg *msg,
                               const VhuThen *then, VhuError *err);

/** Answer the request of the back end that returned -EINPROGRESS.
 * @result: 0 or -errno
 * @fd:     of a lookup, closed once sent; else -1
 * Returns 0, or -ENOENT: none waits (the connection ended); @fd is closed. */
VHU_API int vhu_frontend_answer(VhuFrontend *session, int result, int fd);

/** GET_SHARED_OBJECT: the reply has the fd; refused if unknown. */
VHU_API int vhu_frontend_get_shared_object(VhuFrontend *session,
                                           const VhuUuid *uuid,
                                           const VhuThen *then, VhuError *err);

/* ---- device state ---- */

/* As VhuDoneFn, with the state that was saved: valid inside the call. */
typedef void (*VhuStateFn)(void *opaque, int result, const uint8_t *data,
                           size_t bytes, const VhuError *err);

/**
 * Save the device's state: SET_DEVICE_STATE_FD, read to the end,
 * CHECK_DEVICE_STATE. All vrings must be stopped. One transfer at a time.
 * @timeout_ms: for the whole of it; 0: the session's
 * @fn:         called once with the state
 * Returns also -EBUSY while a transfer runs.
 * vhost-user, "Migrating back-end state".
 */
VHU_API int vhu_frontend_save_state(VhuFrontend *session, int timeout_ms,
                                    VhuStateFn fn, void *opaque, VhuError *err);

typedef struct VhuStateData {
    const uint8_t *data; /* copied */
    size_t bytes;
} VhuStateData;

/** Load a state into the device: the same the other way.
 * @then: its timeout is for the whole transfer */
VHU_API int vhu_frontend_load_state(VhuFrontend *session,
                                    const VhuStateData *state,
                                    const VhuThen *then, VhuError *err);

/* ---- waiting, for tools and tests ---- */

/*
 * An operation made to wait for:
 *
 *     VhuWait w;
 *     rc = vhu_frontend_get_config(s, 0, 8, vhu_wait_then(&w), err);
 *     rc = vhu_frontend_wait(s, rc, &w, err);
 *     ... w.reply.payload.config.data ...
 *     vhu_wait_clear(&w);
 */
typedef struct VhuWait {
    VhuThen then;
    bool done;
    int result;
    VhuError err;
    VhuMessage reply; /* kind VHU_PAYLOAD_NONE if there was none; its fds
                         belong to the caller */
} VhuWait;

/** Prepare a wait. Returns what to give to the operation. */
VHU_API const VhuThen *vhu_wait_then(VhuWait *wait);

/**
 * Dispatch until the operation has ended.
 * @started: what the operation returned; negative: returned at once
 * @wait:    given to the operation
 * @err:     may be NULL
 * Returns its result. Blocks until its deadline at most.
 */
VHU_API int vhu_frontend_wait(VhuFrontend *session, int started, VhuWait *wait,
                              VhuError *err);

/** Dispatch until ops->ready was called or the connection ended. Returns 0,
 * or why it ended. Blocks. */
VHU_API int vhu_frontend_wait_ready(VhuFrontend *session, VhuError *err);

/** Close the fds a wait's reply still holds. */
VHU_API void vhu_wait_clear(VhuWait *wait);

/** Send any request and wait for its end; @reply: filled, its fds are the
 * caller's, may be NULL. Blocks. */
VHU_API int vhu_frontend_call(VhuFrontend *session, const VhuMessage *request,
                              VhuMessage *reply, VhuError *err);

#endif
