/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the guest memory of the session's tests. */
#include "tests/session-files.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

SessionFiles session_files(void)
{
    SessionFiles files = {
        .regions =
            {
                {.guest_addr = 0x0,
                 .size = 0xa0000,
                 .user_addr = 0x7f0000000000,
                 .mmap_offset = 0},
                {.guest_addr = 0x100000,
                 .size = 0x100000,
                 .user_addr = 0x7f0000100000,
                 .mmap_offset = 0x100000},
                {.guest_addr = 0x100000000,
                 .size = 0x200000,
                 .user_addr = 0x7f1000000000,
                 .mmap_offset = 0},
            },
    };

    files.fds[0] = files.fds[1] = memfd_create("low", MFD_CLOEXEC);
    files.fds[2] = memfd_create("high", MFD_CLOEXEC);
    return files;
}

void session_close_files(const SessionFiles *files)
{
    close(files->fds[0]);
    close(files->fds[2]);
}

VhuFrontendMemory session_first(const SessionFiles *files, uint32_t num)
{
    return (VhuFrontendMemory){
        .regions = files->regions, .fds = files->fds, .num = num};
}

void session_expect_file(Script *script, int fd)
{
    int got = script_take_fd(script);
    struct stat a, b;

    g_assert_cmpint(fstat(got, &a), ==, 0);
    g_assert_cmpint(fstat(fd, &b), ==, 0);
    g_assert_cmpuint(a.st_ino, ==, b.st_ino);
    close(got);
}
