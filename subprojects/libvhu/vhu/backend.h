/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The back end: serves vhost-user connections for one device. A device is a
 * VhuDeviceInfo (facts) and a VhuDeviceOps (callbacks); it never sees the
 * protocol.
 *
 * Threads. The control thread owns sockets, messages and all connections. A
 * queue belongs to one loop: the control thread's, or that of a data thread
 * (vhu_backend_set_threads). "Control" and "queue" below say on which of the
 * two a function is called. The control thread never waits for a queue:
 * when a queue is to stop, the reply is sent once the device has given back
 * every element, and other connections are served meanwhile.
 */
#ifndef VHU_BACKEND_H
#define VHU_BACKEND_H

#include "vhu/channel.h"
#include "vhu/loop.h"
#include "vhu/ring.h"

typedef struct VhuBackend VhuBackend;       /* a device that is served */
typedef struct VhuConnection VhuConnection; /* one front end */
typedef struct VhuQueue VhuQueue;           /* one virtqueue of it */

typedef enum VhuLevel {
    VHU_LOG_ERROR, /* a connection or queue ended because of it */
    VHU_LOG_WARN,
    VHU_LOG_INFO, /* one line per event: connected, ring started, ... */
    VHU_LOG_DEBUG,
} VhuLevel;

/* Called on any thread; @text is one line without newline. */
typedef void (*VhuLogFn)(void *opaque, VhuLevel level, const char *text);

/* A growing byte string, for device state. */
typedef struct VhuBuffer {
    uint8_t *data; /* malloc'ed, owned by the buffer */
    size_t bytes;
} VhuBuffer;

/** Append to a buffer. Returns 0 or -ENOMEM. Any thread. */
VHU_API int vhu_buffer_append(VhuBuffer *buffer, const void *data,
                              size_t bytes);

typedef struct VhuDeviceOps VhuDeviceOps;

/* Facts of a device, fixed while it is served. */
typedef struct VhuDeviceInfo {
    const char *name; /* for messages: "vhost-user-blk" */
    /* Device feature bits, and of the transport's those it can stand (of the
     * library: VERSION_1, RING_PACKED, INDIRECT_DESC, EVENT_IDX, IN_ORDER,
     * NOTIFY_ON_EMPTY, ACCESS_PLATFORM, LOG_ALL are all offered unless in
     * features_masked; PROTOCOL_FEATURES always). */
    uint64_t features;
    uint64_t features_masked;
    uint64_t protocol_masked; /* protocol features not to offer */
    uint16_t num_queues;      /* 1 to VHU_MAX_QUEUES */
    uint32_t max_queue_size;  /* entries; 0: VHU_MAX_RING_SIZE */
    uint32_t config_bytes;    /* 0: no configuration space, no CONFIG */
    size_t request_bytes;     /* VhuElement.request */
    const VhuDeviceOps *ops;  /* borrowed for ever */
} VhuDeviceInfo;

/* What queue_process did. */
typedef enum VhuProcess {
    VHU_PROCESS_DONE,    /* popped until there was none */
    VHU_PROCESS_BLOCKED, /* left some: will call vhu_queue_wake */
} VhuProcess;

/*
 * Callbacks; NULL where the device has no need. @state is what connect made.
 * Every callback returns at once: none waits for I/O.
 */
struct VhuDeviceOps {
    /* Control. A front end connected: make its state. Legal results: 0 and
     * *state (may stay NULL), or -errno: the connection is refused. */
    int (*connect)(VhuConnection *connection, void *device, void **state);

    /* Control. The connection is gone, its queues have stopped and all
     * elements are back: free the state. */
    void (*disconnect)(void *state);

    /* Control. SET_FEATURES: the features acknowledged, a subset of those
     * offered. Legal: 0, or -EINVAL: the request fails. May be called again
     * while queues run, then only VHOST_F_LOG_ALL differs. */
    int (*set_features)(void *state, uint64_t features);

    /* Control. Fill @size bytes of configuration space from @offset; the
     * range is inside config_bytes. Legal: 0, or -errno: the request fails. */
    int (*get_config)(void *state, uint32_t offset, void *data, uint32_t size);

    /* Control. The driver (or with @migration the destination of a
     * migration) writes configuration space; the range is inside
     * config_bytes. Legal: 0, or -EINVAL where a field is read-only or the
     * value is not legal: nothing was changed. */
    int (*set_config)(void *state, uint32_t offset, const void *data,
                      uint32_t size, bool migration);

    /* Control. Device reset (RESET_DEVICE, or STATUS 0): queues are stopped;
     * back to the initial state. */
    void (*reset)(void *state);

    /* Control. The driver wrote its status (STATUS), not 0. */
    void (*set_status)(void *state, uint8_t status);

    /* Queue. The ring starts; vhu_queue_set_private may be used. Legal: 0, or
     * -errno: the queue is broken until stopped. */
    int (*queue_start)(VhuQueue *queue, void *state);

    /* Queue. There may be something to pop; also called after start, after
     * vhu_queue_wake and when the queue is enabled. Pop until NULL. */
    VhuProcess (*queue_process)(VhuQueue *queue, void *state);

    /* Queue. The same while the ring is started and disabled: process
     * without side effects (a network device drops what is sent). NULL: the
     * queue is left alone until enabled. */
    VhuProcess (*queue_process_disabled)(VhuQueue *queue, void *state);

    /* Queue. Elements are out and the queue is to stop: give each back soon,
     * complete what is running, push what can be cut short; if
     * vhu_queue_may_suspend, an element may be given to vhu_queue_suspend
     * instead. No queue_process comes until the next queue_start. Called
     * again if the connection is lost meanwhile. NULL: all elements are
     * pushed within queue_process, or come back by themselves. */
    void (*queue_stop)(VhuQueue *queue, void *state);

    /* Queue. All elements are back, the ring is gone: forget the private
     * pointer. Called once for every queue_start that returned 0. */
    void (*queue_stopped)(VhuQueue *queue, void *state);

    /* Control. DEVICE_STATE, queues stopped: append the state to @buffer.
     * Legal: 0 or -errno. Both save and load, or neither. */
    int (*save)(void *state, VhuBuffer *buffer);

    /* Control. Take over a saved state; hostile until checked. Legal: 0, or
     * -EINVAL: nothing was changed. */
    int (*load)(void *state, const uint8_t *data, size_t bytes);

    /* Control. SHARED_OBJECT: an fd of an object of ours, to be closed by
     * the caller, or -1 if unknown. Not NULL: the feature is offered. */
    int (*get_shared_object)(void *state, const VhuUuid *uuid);

    /* Control. SHMEM: fill the sizes of the shared memory regions (bytes, by
     * shmid; 0: absent). Not NULL: the feature is offered. */
    void (*get_shmem_config)(void *state, uint64_t sizes[VHU_SHMEM_REGIONS]);

    /* Control. MTU. Legal: 0 or -EINVAL. Not NULL: offered. */
    int (*set_mtu)(void *state, uint64_t mtu);

    /* Control. RARP for a MAC address. Legal: 0 or -errno. Not NULL:
     * offered. */
    int (*send_rarp)(void *state, const uint8_t mac[6]);

    /* Control. GPU_SET_SOCKET: the device owns @fd from here on. Legal: 0 or
     * -errno (fd closed). */
    int (*set_gpu_socket)(void *state, int fd);
};

/* What the owner of a back end wants to hear; control thread. */
typedef struct VhuBackendEvents {
    /* A connection ended and is being freed; @err: why, code 0 if the front
     * end just closed. */
    void (*disconnected)(void *opaque, VhuConnection *connection,
                         const VhuError *err);
    VhuLogFn log;     /* may be NULL */
    VhuTraceFn trace; /* every message of both channels; may be NULL */
    void *opaque;     /* for all of these */
} VhuBackendEvents;

/**
 * Make a back end; it serves nothing until vhu_backend_serve.
 * @control: loop of the control thread, borrowed
 * @info:    copied
 * @device:  given to connect
 * @events:  copied; may be NULL
 * @err:     may be NULL
 * Returns it, or NULL (no queues, more than VHU_MAX_QUEUES, ops that do not
 * belong together). Control.
 */
VHU_API VhuBackend *vhu_backend_new(VhuLoop *control, const VhuDeviceInfo *info,
                                    void *device,
                                    const VhuBackendEvents *events,
                                    VhuError *err);

/**
 * Let data threads serve the queues: queue i on loops[i % num]. Connections
 * made from now on use them. Only with data threads is PAGEFAULT offered.
 * @loops: borrowed, outlive the back end; @num: 0: the control thread's.
 * Returns 0 or -ENOMEM. Control.
 */
VHU_API int vhu_backend_set_threads(VhuBackend *backend, VhuLoop *const *loops,
                                    unsigned num);

/**
 * Serve a connected socket.
 * @fd: owned by the back end from here on, even on failure
 * @connection: filled, may be NULL
 * Returns 0 or -errno. Control. Any number may be served at once.
 */
VHU_API int vhu_backend_serve(VhuBackend *backend, int fd,
                              VhuConnection **connection, VhuError *err);

/** Connections whose front end is still there. Control. */
VHU_API unsigned vhu_backend_num_connections(const VhuBackend *backend);

/** Connections not yet freed, those still draining included. Control. */
VHU_API unsigned vhu_backend_num_alive(const VhuBackend *backend);

/**
 * End every connection; they are freed as their queues drain (turn the loop
 * until vhu_backend_num_alive is 0). Control.
 */
VHU_API void vhu_backend_close_all(VhuBackend *backend);

/**
 * Free the back end. No connection may be alive. @backend: may be NULL.
 * Control.
 */
VHU_API void vhu_backend_free(VhuBackend *backend);

/** Virtio features offered to front ends. Any thread. */
VHU_API uint64_t vhu_backend_features(const VhuBackend *backend);

/** Protocol features offered to front ends. Any thread. */
VHU_API uint64_t vhu_backend_protocol_features(const VhuBackend *backend);

/* ---- a connection, on the control thread ---- */

/** What connect made. Any thread. */
VHU_API void *vhu_connection_state(const VhuConnection *connection);

/** Number for messages, counting from 1 in a back end. Any thread. */
VHU_API unsigned vhu_connection_id(const VhuConnection *connection);

/** Features acknowledged. Control. */
VHU_API uint64_t vhu_connection_features(const VhuConnection *connection);

/** A queue of it, for posting work to its loop; NULL past num_queues.
 * Control. */
VHU_API VhuQueue *vhu_connection_queue(VhuConnection *connection,
                                       unsigned index);

/** End a connection from our side, for a reason that is logged. Control. */
VHU_API void vhu_connection_close(VhuConnection *connection,
                                  const VhuError *err);

/**
 * Tell the front end that configuration space changed.
 * Returns 0, or -ENOTSUP if it cannot be told (no CONFIG or BACKEND_REQ).
 * Control. vhost-user, "VHOST_USER_BACKEND_CONFIG_CHANGE_MSG".
 */
VHU_API int vhu_connection_config_changed(VhuConnection *connection);

/* Result of a request to the front end: 0, the front end's refusal as
 * -EREMOTEIO, -ECONNRESET, or -EPROTO; @fd: of a lookup, else -1, owned by
 * the callee. Control. */
typedef void (*VhuRequestFn)(void *opaque, int result, int fd);

/**
 * Add ourselves as exporter of an object, remove it, or look one up. Not for
 * a device none of whose rings runs: it is suspended and sends nothing
 * (vhost-user, "Suspended device state").
 * @fn: called once unless the call fails; may be NULL
 * Returns 0, or -ENOTSUP without SHARED_OBJECT. Control.
 * vhost-user, "VHOST_USER_BACKEND_SHARED_OBJECT_ADD" and following.
 */
VHU_API int vhu_connection_shared_object(VhuConnection *connection,
                                         uint32_t request, const VhuUuid *uuid,
                                         VhuRequestFn fn, void *opaque);

/**
 * Map a file into a shared memory region of the device, or unmap; as above,
 * not while suspended.
 * @map: what and where; @fd: borrowed, -1 to unmap
 * @fn, return value: as above, without SHMEM, or to map without
 * BACKEND_SEND_FD. Control.
 */
VHU_API int vhu_connection_shmem(VhuConnection *connection,
                                 const VhuShmemMap *map, int fd,
                                 VhuRequestFn fn, void *opaque);

/* ---- a queue, on its own loop ---- */

/** Its number. Any thread. */
VHU_API unsigned vhu_queue_index(const VhuQueue *queue);

/** Its connection. Any thread. */
VHU_API VhuConnection *vhu_queue_connection(const VhuQueue *queue);

/** The loop it is served on. Any thread. */
VHU_API VhuLoop *vhu_queue_loop(const VhuQueue *queue);

/** Features acknowledged when the ring was started. Queue. */
VHU_API uint64_t vhu_queue_features(const VhuQueue *queue);

/** Whether the ring had run before it was started here: in a back end that is
 * gone, or before a stop. What the driver told that one (its cache mode, say)
 * may not be known here. Queue, while started. */
VHU_API bool vhu_queue_inherited(const VhuQueue *queue);

/** Entries of the ring. Queue, while started. */
VHU_API uint32_t vhu_queue_size(const VhuQueue *queue);

/** The device's own pointer for this queue, NULL at start. Queue. */
VHU_API void vhu_queue_set_private(VhuQueue *queue, void *data);

/** What vhu_queue_set_private was given last. Queue. */
VHU_API void *vhu_queue_private(const VhuQueue *queue);

/**
 * Take the next buffer, or NULL: none, the queue is stopping, an IOTLB entry
 * is awaited, or the driver broke a rule (the library has dealt with it).
 * Queue.
 */
VHU_API VhuElement *vhu_queue_pop(VhuQueue *queue);

/** Give a buffer back; the driver is told at the next vhu_queue_flush (done
 * by the library after queue_process). @written: exactly the bytes written
 * from the start of the in pieces. Queue. */
VHU_API void vhu_queue_push(VhuQueue *queue, VhuElement *element,
                            uint32_t written);

/** Put back the element popped last. Queue. */
VHU_API void vhu_queue_unpop(VhuQueue *queue, VhuElement *element);

/** Show the driver what was pushed and notify it if it wants. Queue. */
VHU_API void vhu_queue_flush(VhuQueue *queue);

/** Have queue_process called again, from the loop. Queue. */
VHU_API void vhu_queue_wake(VhuQueue *queue);

/** Whether the queue is being stopped. Queue. */
VHU_API bool vhu_queue_stopping(const VhuQueue *queue);

/** Whether elements may be suspended rather than completed while stopping
 * (GET_VRING_BASE_INFLIGHT, or the connection is gone). Queue. */
VHU_API bool vhu_queue_may_suspend(const VhuQueue *queue);

/** Give back an element unused; it stays in the inflight region and is
 * resubmitted to whoever serves the ring next. Only if may_suspend. Queue. */
VHU_API void vhu_queue_suspend(VhuQueue *queue, VhuElement *element);

#endif
