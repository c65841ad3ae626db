/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the memory that the tests of the guard lose. */
#ifndef TESTS_GUARD_WORLD_H
#define TESTS_GUARD_WORLD_H

#include "tests/shared-memory.h"

#include <poll.h>
#include <sys/eventfd.h>

#define PAGES 64u

static inline bool is_readable(int fd, int deadline_ms)
{
    struct pollfd pollfd = {.fd = fd, .events = POLLIN};

    return poll(&pollfd, 1, deadline_ms) == 1;
}

/* Memory of a file that the test goes on holding; the fd of its loss. */
typedef struct World {
    int file;
    int lost_fd;
    VhuMemory *memory;
    volatile uint8_t *local;
} World;

static inline World world_of(int file, uint64_t pages)
{
    VhuMemRegion region = shared_region(0, 0x7f0000000000, pages, 0);
    World world = {
        .file = file,
        .lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
    };

    world.memory = shared_memory(&region, 1, dup(file), world.lost_fd);
    world.local = vhu_memory_guest_ptr(world.memory, 0, pages * PAGE);
    g_assert_nonnull(world.local);
    return world;
}

static inline World world_new(void)
{
    vhu_memory_guard_install();
    return world_of(shared_file(PAGES), PAGES);
}

static inline void world_free(World *world)
{
    vhu_memory_unref(world->memory);
    close(world->file);
    close(world->lost_fd);
}

#endif
