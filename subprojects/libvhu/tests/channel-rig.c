/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the peer of a channel under test, and the faults between the two. */
#include "tests/channel-rig.h"

#include <dirent.h>
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

Faults faults;

const char table_hex[] =
    "05000000 01000000 48000000 02000000 00000000"
    " 0000000000000000 00000f0000000000 0000e0aabb7f0000 0000000000000000"
    " 0000100000000000 0000f03f00000000 0000f0aabb7f0000 0000100000000000";

static bool interrupted(void)
{
    if (faults.interrupts == 0) {
        return false;
    }
    faults.interrupts--;
    errno = EINTR;
    return true;
}

/* Between the channel and the kernel, in place of the C library's. */
ssize_t sendmsg(int fd, const struct msghdr *header, int flags)
{
    struct iovec iov = header->msg_iov[0];
    struct msghdr cut = *header;
    ssize_t count;

    g_assert_cmpuint(header->msg_iovlen, ==, 1);
    if (interrupted()) {
        return -1;
    }
    if (faults.send_errno) {
        errno = faults.send_errno;
        return -1;
    }
    if (faults.refusals || (faults.send_limited && faults.send_budget == 0)) {
        faults.refusals -= faults.refusals > 0;
        errno = EAGAIN;
        return -1;
    }
    if (faults.send_most) {
        iov.iov_len = MIN(iov.iov_len, faults.send_most);
    }
    if (faults.send_limited) {
        iov.iov_len = MIN(iov.iov_len, faults.send_budget);
    }
    cut.msg_iov = &iov;
    count = syscall(SYS_sendmsg, fd, &cut, flags);
    if (count > 0 && faults.send_limited) {
        faults.send_budget -= (size_t)count;
    }
    return count;
}

ssize_t recvmsg(int fd, struct msghdr *header, int flags)
{
    struct iovec iov = header->msg_iov[0];
    struct msghdr cut = *header;
    ssize_t count;

    g_assert_cmpuint(header->msg_iovlen, ==, 1);
    if (interrupted()) {
        return -1;
    }
    if (faults.receive_most) {
        iov.iov_len = MIN(iov.iov_len, faults.receive_most);
    }
    cut.msg_iov = &iov;
    count = syscall(SYS_recvmsg, fd, &cut, flags);
    header->msg_controllen = cut.msg_controllen;
    header->msg_flags = cut.msg_flags;
    return count;
}

unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    g_assert_nonnull(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

Rig rig_open(const VhuWire *wire, bool requester)
{
    Rig rig = {.fds_first = open_fds()};
    VhuError err = {0};
    int pair[2];

    faults = (Faults){0};
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair),
                    ==, 0);
    rig.channel = vhu_channel_new(pair[0], wire->direction, requester, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(rig.channel);
    *vhu_channel_wire(rig.channel) = *wire;
    rig.peer = pair[1];
    return rig;
}

void rig_close(Rig *rig)
{
    vhu_channel_free(rig->channel);
    if (rig->peer >= 0) {
        close(rig->peer);
    }
    g_assert_cmpuint(open_fds(), ==, rig->fds_first);
}

int spare_fd(void)
{
    int fd = memfd_create("spare", MFD_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

void close_both(const int *fds)
{
    close(fds[0]);
    close(fds[1]);
}

bool same_file(int fd, int other)
{
    struct stat a;
    struct stat b;

    return fstat(fd, &a) == 0 && fstat(other, &b) == 0 &&
           a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

void peer_send(const Rig *rig, const void *bytes, size_t size, const int *fds,
               uint32_t num_fds)
{
    char control[CMSG_SPACE(64 * sizeof(int))] = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};

    g_assert_cmpuint(num_fds, <=, 64);
    if (num_fds) {
        struct cmsghdr *cmsg;

        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
        cmsg = CMSG_FIRSTHDR(&header);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
        memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
    }
    g_assert_cmpint(syscall(SYS_sendmsg, rig->peer, &header, MSG_NOSIGNAL), ==,
                    (ssize_t)size);
}

ssize_t peer_receive(const Rig *rig, void *bytes, size_t size, int *fds,
                     uint32_t *num_fds)
{
    char control[CMSG_SPACE(VHU_MAX_FDS * sizeof(int))];
    struct iovec iov = {.iov_base = bytes, .iov_len = size};
    struct msghdr header = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control,
        .msg_controllen = sizeof(control),
    };
    ssize_t count = syscall(SYS_recvmsg, rig->peer, &header,
                            MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *cmsg = count > 0 ? CMSG_FIRSTHDR(&header) : NULL;

    if (num_fds) {
        *num_fds = 0;
    }
    if (cmsg) {
        size_t length = cmsg->cmsg_len - CMSG_LEN(0);

        g_assert_nonnull(fds);
        memcpy(fds, CMSG_DATA(cmsg), length);
        *num_fds = (uint32_t)(length / sizeof(int));
    }
    return count;
}
