/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the front-end session share.
 *
 *   frontend.c            life of a session, its sockets, one round of work
 *   frontend-call.c       requests: queue, send, match replies, deadlines
 *   frontend-group.c      several requests with one end
 *   frontend-reply.c      what a reply says: done, refused or wrong
 *   frontend-negotiate.c  from a socket to ops->ready
 *   frontend-memory.c     features, memory, log, inflight: what is kept
 *   frontend-vring.c      vrings, configuration space, IOTLB
 *   frontend-serve.c      requests of the back end
 *   frontend-state.c      device state through a pipe
 *   frontend-wait.c       blocking, for tools
 *
 * Only dispatch, close and free call the owner. What goes wrong anywhere
 * else is recorded by vhu_frontend_fail and carried out by the next dispatch.
 */
#ifndef VHU_FRONTEND_INTERNAL_H
#define VHU_FRONTEND_INTERNAL_H

#include "vhu/frontend.h"

/* Whatever one round of work takes from a socket or a pipe at most. */
#define VHU_FRONTEND_BUDGET 64

/* A request, from when it is asked until it is answered. */
typedef struct VhuCall VhuCall;
struct VhuCall {
    VhuCall *next;
    VhuMessage msg; /* the fds are ours until it is sent; request 0: nothing
                       is sent, it only completes in its turn */
    bool sent;
    bool reply_due; /* known once it is sent */
    bool no_ack;
    int64_t started_ms;
    int64_t deadline_ms;
    VhuDoneFn fn;
    void *opaque;
};

/* A file the session has in its epoll. */
typedef struct VhuPort {
    int fd;          /* -1: none */
    uint32_t events; /* EPOLL* it is watched for; 0: not in the epoll */
    bool always;     /* epoll does not take it: it is always ready */
} VhuPort;

/* A region of guest memory, with our duplicate of its fd. */
typedef struct VhuShare {
    VhuMemRegion region;
    int fd;
    dev_t device; /* which file it is, to tell whether it has changed */
    ino_t inode;
    VhuUserAddr backend_addr; /* postcopy: where the back end has it, or 0 */
} VhuShare;

typedef struct VhuShares {
    VhuShare *list;
    uint32_t num;
} VhuShares;

/* A file that is kept and sent again: the log, the inflight buffer. */
typedef struct VhuKeptLog {
    int fd; /* -1: none */
    VhuLogArea area;
} VhuKeptLog;

typedef struct VhuKeptInflight {
    int fd; /* -1: none */
    VhuInflightArea area;
    bool asking; /* GET_INFLIGHT_FD runs */
    VhuThen then;
} VhuKeptInflight;

typedef enum VhuTransferStage {
    VHU_TRANSFER_IDLE,
    VHU_TRANSFER_OFFERED, /* SET_DEVICE_STATE_FD sent */
    VHU_TRANSFER_MOVING,  /* bytes go through the pipe */
    VHU_TRANSFER_CHECK,   /* CHECK_DEVICE_STATE sent */
} VhuTransferStage;

typedef struct VhuTransfer {
    VhuTransferStage stage;
    bool load;
    VhuPort port; /* our end of the pipe */
    uint8_t *data;
    size_t bytes; /* in data: received, or to be sent */
    size_t room;  /* allocated */
    size_t sent;
    bool cut; /* the back end closed the pipe before the end */
    int64_t started_ms;
    int64_t deadline_ms;
    VhuStateFn fn; /* of a save */
    VhuThen then;  /* of a load */
    void *opaque;
} VhuTransfer;

struct VhuFrontend {
    char *name;
    VhuFrontendConfig config;
    VhuFrontendOps ops;
    VhuFrontendInfo info;

    int epoll_fd;
    int timer_fd;     /* in the epoll: deadlines, and work left over */
    int64_t armed_ms; /* what it is set to; -1: not */
    bool wake;        /* there is work without an fd being ready */

    VhuChannel *channel; /* NULL: detached */
    VhuPort port;
    VhuChannel *back_channel; /* the back end's requests; may be NULL */
    VhuPort back_port;
    VhuError failed; /* code 0: the connection is good */

    VhuCall *calls; /* oldest first */
    VhuCall **calls_end;
    VhuCall *unsent; /* the first not sent, or NULL */
    VhuCall *holder; /* sent; nothing is sent before it is complete */
    bool urgent;     /* what is posted now goes before all not sent */

    unsigned step;    /* of the negotiation */
    bool negotiation; /* it may post now, others not */
    bool again;       /* was ready on an earlier socket */

    bool deferred; /* a request of the back end waits for its answer */
    VhuMessage deferred_request;

    bool features_set;
    VhuShares memory; /* what the owner asked for */
    VhuShares told;   /* what the back end has been told */
    VhuKeptLog log;
    VhuKeptInflight inflight;
    VhuTransfer transfer;
};

/* ---- frontend.c ---- */

/** Record that the connection must end; the first reason stays. The next
 * dispatch ends it. @err: code set, its text begins with the name. */
void vhu_frontend_fail(VhuFrontend *session, const VhuError *err);

/** The same, putting the session's name before the text. */
void vhu_frontend_fail_named(VhuFrontend *session, const VhuError *err);

/** Have the next dispatch come at once. */
void vhu_frontend_wake(VhuFrontend *session);

/** Set the timer to the earliest deadline, or now. */
void vhu_frontend_arm(VhuFrontend *session);

/** Watch a port for events, or with 0 not at all. Returns 0 or -errno. */
int vhu_frontend_watch(VhuFrontend *session, VhuPort *port, uint32_t events);

/** Whether an operation of the owner may start: 0 or -ENOTCONN. */
int vhu_frontend_usable(VhuFrontend *session, VhuError *err);

/** Name of a request of the front end, without its prefix; never NULL. */
const char *vhu_request_name(uint32_t request);

/** A copy of a VhuThen, or none. */
VhuThen vhu_then_copy(const VhuThen *then);

/** Call it, if there is something to call. */
void vhu_then_call(const VhuThen *then, int result, VhuMessage *reply,
                   const VhuError *err);

/* ---- frontend-call.c ---- */

/** Queue a request and send it if it is its turn. As
 * vhu_frontend_request, but also while negotiating. */
int vhu_frontend_post(VhuFrontend *session, const VhuMessage *msg,
                      const VhuThen *then, VhuError *err);

/** The same before all that is not sent: only from the end of a request that
 * held the others back. */
int vhu_frontend_post_urgent(VhuFrontend *session, const VhuMessage *msg,
                             const VhuThen *then, VhuError *err);

/** Queue nothing: @then is called in its turn. Returns 0 or -ENOMEM. */
int vhu_frontend_post_nothing(VhuFrontend *session, const VhuThen *then,
                              VhuError *err);

/** Room for that many more requests: 0 or -ENOBUFS. */
int vhu_frontend_room(const VhuFrontend *session, uint32_t num, VhuError *err);

/** Send what may be sent, and keep the socket watched accordingly. */
void vhu_frontend_push(VhuFrontend *session);

/** Receive replies, complete what is done. */
void vhu_frontend_pull(VhuFrontend *session);

/** Fail the connection if a request is past its deadline. */
void vhu_frontend_expire(VhuFrontend *session, int64_t now_ms);

/** Complete everything that is queued with an error. */
void vhu_frontend_drop_calls(VhuFrontend *session, VhuCall *calls,
                             const VhuError *err);

/* ---- frontend-group.c ---- */

/*
 * Several requests with one end: the then of the whole is called after the
 * last, with the first error or the last reply.
 */
typedef struct VhuGroup VhuGroup;

/** Start a group for at most @num requests. Returns 0 and fills @group, or
 * -errno. */
int vhu_group_new(VhuFrontend *session, uint32_t num, const VhuThen *then,
                  VhuGroup **group, VhuError *err);

/** Post one of them. @msg: as of vhu_frontend_post. After an error the rest
 * is skipped. */
void vhu_group_post(VhuGroup *group, const VhuMessage *msg);

/** All are posted; frees it. Returns 0, or the error if none could be: then
 * @then is not called. @err: may be NULL. */
int vhu_group_close(VhuGroup *group, VhuError *err);

/* ---- frontend-reply.c ---- */

/**
 * What a reply says about its request.
 * @msg:   the request; @reply: what came, of the same number
 * @err:   filled on error
 * Returns 0, -EREMOTEIO (refused), -EPROTO or -EBADMSG (wrong).
 */
int vhu_reply_judge(const VhuMessage *msg, const VhuMessage *reply,
                    VhuError *err);

/* ---- frontend-negotiate.c ---- */

/** Start to negotiate on the socket just attached. */
void vhu_frontend_negotiate(VhuFrontend *session);

/* ---- frontend-memory.c ---- */

/** Send again what was set on an earlier connection; 0 if @then will come,
 * 1 if there is nothing to send, or -errno. */
int vhu_frontend_resend_features(VhuFrontend *session, const VhuThen *then,
                                 VhuError *err);
int vhu_frontend_resend_inflight(VhuFrontend *session, const VhuThen *then,
                                 VhuError *err);
int vhu_frontend_resend_log(VhuFrontend *session, const VhuThen *then,
                            VhuError *err);
int vhu_frontend_resend_memory(VhuFrontend *session, const VhuThen *then,
                               VhuError *err);

/** Postcopy: keep the bases a reply names and acknowledge them. */
void vhu_frontend_take_bases(VhuFrontend *session, const VhuMessage *reply);

/** What the front end calls a guest physical range, or -EFAULT. */
int vhu_frontend_user_addr(const VhuFrontend *session, VhuGuestAddr addr,
                           uint64_t size, VhuUserAddr *out);

/** Forget all that is kept, close its fds. */
void vhu_frontend_forget(VhuFrontend *session);

/** A new connection: the back end knows of no memory. */
void vhu_frontend_untell(VhuFrontend *session);

/* ---- frontend-serve.c ---- */

/** Make the back-end channel. @fd: filled with the end to send, owned by the
 * caller. Returns 0 or -errno. */
int vhu_frontend_open_back(VhuFrontend *session, int *fd, VhuError *err);

/** Serve requests of the back end. */
void vhu_frontend_serve(VhuFrontend *session);

/** Close the channel, drop what waits for an answer. */
void vhu_frontend_close_back(VhuFrontend *session);

/* ---- frontend-state.c ---- */

/** Move bytes of a device state that is transferred. */
void vhu_frontend_transfer(VhuFrontend *session);

/** End a transfer: the connection is gone. */
void vhu_frontend_drop_transfer(VhuFrontend *session, const VhuError *err);

#endif
