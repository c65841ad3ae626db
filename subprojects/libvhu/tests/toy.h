/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device for the tests of the back end, in the test's process: it returns
 * the bytes of each request in reverse order, or holds requests back like a
 * disk that hangs, and writes down what the library tells it.
 *
 * The environment variable VHU_MASK_BACKEND, a bit number, keeps it from
 * offering that protocol feature: a test that proves the feature fails then.
 */
#ifndef VHU_TESTS_TOY_H
#define VHU_TESTS_TOY_H

#include "tests/rig.h"
#include "vhu/backend.h"

#define TOY_CONFIG_BYTES 64u
/* From here on configuration space may be written by the driver. */
#define TOY_CONFIG_WRITABLE 32u

typedef struct Toy Toy;

/* What becomes of requests held back when their queue is to stop. */
typedef enum ToyStop {
    TOY_STOP_FINISH,  /* completed */
    TOY_STOP_SUSPEND, /* suspended where that is allowed, else completed */
    TOY_STOP_HANG,    /* held until toy_release */
} ToyStop;

/* All zero is one queue on the control thread that returns requests. */
typedef struct ToyConfig {
    uint16_t num_queues; /* 0: 1 */
    unsigned num_threads;
    bool hold;
    ToyStop stop;
    bool one_by_one;          /* pops one request each time it is woken */
    bool drops_when_disabled; /* has queue_process_disabled: used, 0 bytes */
    bool refuses;             /* every connection */
    uint32_t max_queue_size;
    uint64_t protocol_masked;
    void (*emptied)(void *opaque); /* after each last pop; queue's loop */
    void *opaque;                  /* of emptied */
    VhuLoop *loop;                 /* of another toy, to share; NULL: its own */
} ToyConfig;

/** Make it. @config: may be NULL. */
Toy *toy_new(const ToyConfig *config);

/** Close all connections, wait for them, free it. @toy: may be NULL. */
void toy_free(Toy *toy);

/** Its control thread's loop, for RigConfig.loop. */
VhuLoop *toy_loop(Toy *toy);

VhuBackend *toy_backend(Toy *toy);

/** Serve a new connection. Returns the front end's socket. */
int toy_connect(Toy *toy);

/** The newest connection that is served, for the calls of backend.h. */
VhuConnection *toy_connection(Toy *toy);

/** Hold requests back from now on, or not. Any thread's queues. */
void toy_hold(Toy *toy, bool hold);

/** Requests held back. */
unsigned toy_held(Toy *toy);

/** Complete what is held back, in the order it was popped. */
void toy_release(Toy *toy);

/** The same in a moment, while the test waits for something else. */
void toy_release_soon(Toy *toy);

/** Complete one of them. @nth: oldest first, from 0, of queue 0 of the newest
 * connection. */
void toy_release_one(Toy *toy, unsigned nth);

/** Requests returned so far, and of them those marked resubmitted. */
unsigned toy_served(Toy *toy);
unsigned toy_resubmitted(Toy *toy);

/** What happened since the last call, in words: "connect start 0 stop 0
 * stopped 0 status 0xf reset disconnect". Borrowed until the next call. */
const char *toy_events(Toy *toy);

/** Whether the library logged a line that holds @text. */
bool toy_logged(Toy *toy, const char *text);

/** Connections that have ended, and why the last one did. */
unsigned toy_num_ended(Toy *toy);
const VhuError *toy_last_end(Toy *toy);

/** Configuration space; a change is told by toy_change_config. */
uint8_t *toy_config_space(Toy *toy);

/** Change byte 0 and tell all connections. Returns the first's result. */
int toy_change_config(Toy *toy);

/** State that is saved and was loaded: TOY_STATE_BYTES of one value. */
#define TOY_STATE_BYTES (300u * 1024u)
void toy_set_state(Toy *toy, uint8_t value);
uint8_t toy_state(Toy *toy);

/** The object it exports: a memfd that holds this text. */
extern const VhuUuid toy_uuid;
#define TOY_OBJECT "an object of the toy"

/** Turn the loop until @done. Fails the test after 10 s. */
void toy_until(Toy *toy, RigCondition done, void *opaque);

/** Turn the loop until that many requests are held back. */
void toy_wait_held(Toy *toy, unsigned num);

/** Turn the loop until a line that holds @text is logged. */
void toy_wait_logged(Toy *toy, const char *text);

/** Turn the loop for a while: every chance to do what must not happen. */
void toy_idle(Toy *toy);

/** Turn the loop until that many connections have ended. */
void toy_wait_ended(Toy *toy, unsigned num);

/** Turn the loop until all connections are freed. */
void toy_wait_gone(Toy *toy);

/** A rig that is connected to the toy. @config: loop is filled in. */
Rig *toy_rig(Toy *toy, const RigConfig *config);

/** Send @bytes random bytes through a queue and check what comes back. */
void toy_round_trip(Rig *rig, unsigned queue, size_t bytes);

/** A request of 16 bytes out, 16 in, submitted. */
RigRequest *toy_submit(Rig *rig, unsigned queue);

/** The same, available and not kicked. */
RigRequest *toy_add_quietly(Rig *rig, unsigned queue);

/** Whether such a request came back right. Frees it. */
void toy_check(RigRequest *request);

#endif
