/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the back end share. Theory of operation:
 *
 * A connection reads a message, finds its handler in a table and lets it run.
 * A handler that changes a queue sends commands to the queue's loop; the
 * connection is then busy: it reads no further message until every command
 * has been answered, and only then is the reply sent. The control thread
 * itself never waits. Stopping a queue is such a command, answered when the
 * device has given back all elements.
 *
 * Fields of VhuQueue are split by thread: "set" belongs to the control
 * thread, "run" to the queue's loop; the rest never changes. Posts between
 * two loops keep their order, so that after the answer to the last command
 * nothing of a queue is under way any more and it may be freed.
 */
#ifndef VHU_BACKEND_INTERNAL_H
#define VHU_BACKEND_INTERNAL_H

#include "vhu/backend.h"
#include "vhu/postcopy.h"

#include <sys/types.h>

#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define VHU_FEATURE(bit) (1ULL << (bit))

/* What SET_VRING_ADDR's addresses are. */
typedef enum VhuAddrSpace {
    VHU_ADDR_USER,
    VHU_ADDR_GUEST, /* GPA_ADDRESSES */
    VHU_ADDR_IOVA,  /* ACCESS_PLATFORM */
} VhuAddrSpace;

/* Everything a queue's loop needs to make its ring. */
typedef struct VhuQueueSetup {
    uint64_t features;
    VhuAddrSpace space;
    uint32_t size;
    uint32_t base;
    bool resumed;   /* may have run before: its kick may be lost */
    bool inherited; /* has run before */
    VhuVringAddr addr;
    VhuMemory *memory;     /* a reference */
    VhuIotlb *iotlb;       /* the connection's, or NULL */
    VhuInflight *inflight; /* a reference, or NULL */
} VhuQueueSetup;

/* A contiguous view of scattered pages, see stitch.c. */
typedef struct VhuStitch VhuStitch;

/* The three parts of a ring in local memory. */
typedef struct VhuParts {
    void *local[3];         /* descriptor, driver and device area */
    VhuStitch *stitches[3]; /* owned; NULL where contiguous by itself */
    VhuMemory *memory;      /* a reference: what they are mapped by */
} VhuParts;

typedef struct VhuQueueLog {
    VhuDirtyLog *log; /* a reference, or NULL */
    bool used;        /* VHOST_VRING_F_LOG */
    uint64_t addr;
    int event_fd; /* owned, or -1 */
} VhuQueueLog;

typedef struct VhuQueueCommand VhuQueueCommand;
typedef void (*VhuCommandFn)(VhuQueue *queue, VhuQueueCommand *command);

struct VhuQueueCommand {
    VhuQueue *queue;
    VhuCommandFn run;      /* on the queue's loop; ends in vhu_command_done */
    int fd;                /* KICK, CALL, ERR: owned, or -1 */
    bool flag;             /* ENABLE: on; ARM: poll; STOP: connection is gone */
    bool may_suspend;      /* STOP */
    bool started;          /* answer to STOP: the ring was running */
    VhuQueueSetup setup;   /* ARM, MEMORY: with references of its own */
    VhuIotlbMsg iotlb;     /* MEMORY: the update behind it, else size 0 */
    VhuQueueLog log;       /* LOG */
    uint32_t base;         /* answer to STOP */
    VhuQueueCommand *next; /* STOP: others that wait for the same end */
};

struct VhuQueue {
    VhuConnection *connection;
    unsigned index;
    VhuLoop *loop;
    bool call_posted; /* a VRING_CALL is on its way; atomic */

    struct {
        uint32_t size;
        uint32_t base;
        VhuVringAddr addr;
        bool has_addr;
        bool has_base;
        bool enabled;
        bool armed; /* from SET_VRING_KICK to the answer of STOP */
    } set;

    struct {
        VhuQueueSetup setup;
        VhuQueueLog log;
        bool armed;
        bool enabled;
        bool kicked;   /* was started; the ring may still wait for IOTLB */
        bool broken;   /* the driver or device broke it, until stopped */
        bool draining; /* to stop once what is to resubmit was popped */
        bool stopping;
        bool abandon; /* stopping because the connection is gone */
        bool may_suspend;
        bool iotlb_wait;
        bool missing; /* missed was told, its update has not come */
        VhuIotlbMiss missed;
        bool wake_posted;
        bool pushed; /* since the last flush */
        bool finish_posted;
        bool stalled; /* its parts are not mapped */
        int kick_fd;
        int call_fd;
        int err_fd;
        VhuWatch *kick_watch;
        VhuTimer *poll_timer; /* instead of a kick fd */
        VhuRing *ring;        /* NULL unless started */
        VhuParts parts;       /* of the ring */
        uint32_t held;        /* elements the device has */
        void *data;           /* vhu_queue_set_private */
        VhuQueueCommand *stop;
    } run;
};

/* Which file an fd is, whoever holds it and however it came. */
typedef struct VhuFileId {
    dev_t device;
    ino_t inode;
} VhuFileId;

/* A request sent to the front end and not answered. */
typedef struct VhuPending VhuPending;
struct VhuPending {
    uint32_t request;
    VhuRequestFn fn;
    void *opaque;
    VhuPending *next;
};

/* A transfer of device state. */
typedef struct VhuTransfer {
    int fd; /* owned; -1: none under way */
    VhuWatch *watch;
    bool saving;
    bool socket; /* else a pipe */
    int result;  /* 0, or -errno */
    VhuBuffer buffer;
    size_t done;      /* bytes of it sent */
    bool check_waits; /* CHECK_DEVICE_STATE came before the end */
} VhuTransfer;

/* Called when the answers of all commands of a message are there. Fills what
 * of @reply the handler could not; returns as a handler does. */
typedef int (*VhuResumeFn)(VhuConnection *connection, VhuMessage *reply,
                           VhuError *err);

struct VhuConnection {
    VhuBackend *backend;
    unsigned id;
    void *state;
    bool connected; /* ops->connect succeeded */
    VhuChannel *channel;
    VhuWatch *watch;
    uint64_t features;

    bool busy;        /* a message waits for answers, or for the state */
    unsigned pending; /* commands not answered */
    VhuResumeFn resume;
    VhuMessage request; /* the one at hand */
    VhuMessage reply;
    bool waits_for_drain; /* SET_VRING_KICK held back, see handle-vring.c */

    bool closing;
    bool told; /* the owner's disconnected was called */
    VhuError why;

    VhuMemory *memory;
    int lost_fd;
    VhuWatch *lost_watch;
    VhuIotlb *iotlb;
    VhuDirtyLog *log;
    int log_fd;
    VhuInflight *inflight;
    VhuFileId inflight_id; /* of its file */
    int uffd;
    bool postcopy_ack; /* bases were sent, the empty table is due */

    VhuChannel *requests;
    VhuWatch *requests_watch;
    VhuPending *asked, **asked_end;
    unsigned num_asked;
    unsigned num_started; /* rings that run */
    bool config_changed;  /* to be told once a ring runs */

    VhuTransfer transfer;
    uint8_t status;
    VhuQueue *queues; /* info.num_queues */
    VhuConnection *next, **prev;
};

struct VhuBackend {
    VhuLoop *control;
    VhuDeviceInfo info;
    void *device;
    VhuBackendEvents events;
    VhuLoop **loops;
    unsigned num_loops;
    uint64_t features;
    uint64_t protocol_features;
    VhuConnection *connections;
    unsigned last_id;
};

/*
 * A handler carries out one request. It returns 0 when done, -errno to
 * refuse, or VHU_HANDLE_LATER after vhu_connection_wait. @reply is zeroed,
 * with the request's number; a handler of a request with a reply of its own
 * fills kind and payload. Fds of @msg that it wants it takes.
 */
#define VHU_HANDLE_LATER 1
typedef int (*VhuHandler)(VhuConnection *connection, VhuMessage *msg,
                          VhuMessage *reply, VhuError *err);

/* The handlers by request; NULL: known but not implemented, so never
 * offered. */
extern const VhuHandler vhu_setup_handlers[];
extern const VhuHandler vhu_memory_handlers[];
extern const VhuHandler vhu_vring_handlers[];
#define VHU_NUM_HANDLERS (VHOST_USER_GET_SHMEM_CONFIG + 1)

/* connection.c */
VhuConnection *vhu_connection_new(VhuBackend *backend, int fd, VhuError *err);
void vhu_connection_log(const VhuConnection *connection, VhuLevel level,
                        const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
uint64_t vhu_connection_protocol(const VhuConnection *connection);
bool vhu_connection_has(const VhuConnection *connection, unsigned bit);
/* The request at hand is answered when all commands sent (maybe none) are:
 * then @resume, if any, completes it. Returns VHU_HANDLE_LATER. */
int vhu_connection_wait(VhuConnection *connection, VhuResumeFn resume);
void vhu_connection_unhold(VhuConnection *connection);
void vhu_connection_ring_started(VhuConnection *connection);
void vhu_connection_drained(VhuConnection *connection);

/* close.c */
void vhu_fd_close(int *fd); /* if it is one; -1 after */
void vhu_connection_try_free(VhuConnection *connection);

/* backend.c */
void vhu_backend_log(const VhuBackend *backend, VhuLevel level,
                     const char *text);
void vhu_backend_forget(VhuBackend *backend, VhuConnection *connection);

/* queue-control.c: control thread */
int vhu_event_fd_take(VhuMessage *msg);
int vhu_queue_init(VhuQueue *queue, VhuConnection *connection, unsigned index);
void vhu_queue_destroy(VhuQueue *queue);
VhuQueueCommand *vhu_command_new(VhuQueue *queue, VhuCommandFn run);
int vhu_command_send(VhuQueueCommand *command);
void vhu_command_done(VhuQueueCommand *command); /* queue's loop */
void vhu_setup_release(VhuQueueSetup *setup);
void vhu_queue_log_release(VhuQueueLog *log);
int vhu_queue_send_arm(VhuQueue *queue, int kick_fd, bool poll);
int vhu_queue_send_kick(VhuQueue *queue);
int vhu_queue_send_memory(VhuQueue *queue, const VhuIotlbMsg *iotlb);
int vhu_queue_send_log(VhuQueue *queue);
int vhu_queue_send_fd(VhuQueue *queue, VhuCommandFn run, int fd);
int vhu_queue_send_enable(VhuQueue *queue, bool enabled);
int vhu_queue_send_stop(VhuQueue *queue, bool gone);
bool vhu_queues_any_armed(const VhuConnection *connection);
int vhu_queues_send_memory(VhuConnection *connection, const VhuIotlbMsg *iotlb);
int vhu_queues_send_log(VhuConnection *connection);
int vhu_queues_send_stop(VhuConnection *connection, bool gone);

/* queue-command.c: queue's loop */
void vhu_queue_do_arm(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_memory(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_log(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_call(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_err(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_enable(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_kick(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_do_stop(VhuQueue *queue, VhuQueueCommand *command);
void vhu_queue_begin_stop(VhuQueue *queue);
void vhu_queue_finish_if_idle(VhuQueue *queue);

/* queue.c: queue's loop */
void vhu_queue_run(VhuQueue *queue);
bool vhu_queue_must_resubmit(const VhuQueue *queue);
void vhu_queue_break(VhuQueue *queue, const VhuError *err);

void vhu_queue_refresh(VhuQueue *queue);

/* queue-parts.c: queue's loop */
int vhu_queue_resolve(VhuQueue *queue, VhuParts *parts, VhuError *err);
void vhu_parts_release(VhuParts *parts);
void vhu_queue_miss(VhuQueue *queue, VhuIotlbMiss miss);

/* stitch.c: any thread. Maps @pieces side by side, with a guard that reports
 * to @lost_fd; fills @local with the address of the first byte. NULL if they
 * do not meet at page boundaries, or without memory. */
VhuStitch *vhu_stitch_new(const struct iovec *pieces, int num, int lost_fd,
                          void **local);
void vhu_stitch_free(VhuStitch *stitch);

/* requests.c: control thread */
int vhu_requests_open(VhuConnection *connection, int fd, VhuError *err);
void vhu_requests_close(VhuConnection *connection);
int vhu_requests_send(VhuConnection *connection, VhuMessage *msg,
                      VhuRequestFn fn, void *opaque);
void vhu_requests_flush_config(VhuConnection *connection);

/* transfer.c: control thread */
int vhu_transfer_start(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err);
int vhu_transfer_check(VhuConnection *connection, VhuMessage *msg,
                       VhuMessage *reply, VhuError *err);
void vhu_transfer_abort(VhuConnection *connection);

#endif
