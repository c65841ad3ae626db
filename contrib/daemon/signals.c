/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the signals that end a daemon. They reach the control thread only
 * (data threads block them), which may be stuck inside a device: then the
 * second signal, or the alarm set by the first, does what is left to do from
 * the handler itself.
 */
#include "contrib/daemon/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct {
    int fd;
    volatile sig_atomic_t received;
    volatile sig_atomic_t status;
    SignalsFn last_act;
    void *opaque;
} signals_state = {.fd = -1};

void signals_end_process(void)
{
    if (signals_state.last_act) {
        signals_state.last_act(signals_state.opaque);
    }
    _exit(signals_state.status);
}

static void on_alarm(int number)
{
    (void)number;
    signals_end_process();
}

static void on_signal(int number)
{
    const uint64_t one = 1;
    const int code = errno;

    if (signals_state.received) {
        signals_end_process();
    }
    signals_state.received = number;
    alarm(SIGNALS_PATIENCE_SECONDS);
    if (write(signals_state.fd, &one, sizeof(one)) < 0) {
        signals_end_process();
    }
    errno = code;
}

static int set_handler(int number, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, NULL);
}

static bool is_ignored(int number)
{
    struct sigaction action;

    return sigaction(number, NULL, &action) == 0 &&
           action.sa_handler == SIG_IGN;
}

/* Whoever started us may have left them blocked. */
static int unblock(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGALRM);
    return sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int signals_init(void)
{
    signals_state.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signals_state.fd < 0 || set_handler(SIGPIPE, SIG_IGN) < 0 ||
        set_handler(SIGALRM, on_alarm) < 0 ||
        set_handler(SIGTERM, on_signal) < 0 ||
        set_handler(SIGINT, on_signal) < 0) {
        return -1;
    }
    if (!is_ignored(SIGHUP) && set_handler(SIGHUP, on_signal) < 0) {
        return -1;
    }
    return unblock() < 0 ? -1 : signals_state.fd;
}

void signals_set_last_act(SignalsFn fn, void *opaque)
{
    signals_state.opaque = opaque;
    signals_state.last_act = fn;
}

int signals_received(void)
{
    return signals_state.received;
}

void signals_set_deadline(int status)
{
    signals_state.status = status;
    alarm(SIGNALS_PATIENCE_SECONDS);
}
