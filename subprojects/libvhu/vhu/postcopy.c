/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the back end's userfaultfd: opening it and registering memory with it.
 * The front end serves the faults; nothing here reads them.
 */
#include "vhu/postcopy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define POSTCOPY_DEVICE "/dev/userfaultfd"
#define POSTCOPY_FLAGS  (O_CLOEXEC | O_NONBLOCK)

/*
 * A userfaultfd that also catches what the kernel touches for us, as when it
 * reads a disk into guest memory. The system call gives one to the privileged
 * only (or where vm.unprivileged_userfaultfd allows), the device to whom its
 * owner lets open it.
 */
static int postcopy_fd(void)
{
    int uffd = (int)syscall(SYS_userfaultfd, POSTCOPY_FLAGS);
    int device;
    int saved;

    if (uffd >= 0) {
        return uffd;
    }
    saved = errno;
    device = open(POSTCOPY_DEVICE, O_RDWR | O_CLOEXEC);
    if (device < 0) {
        return -saved;
    }
    uffd = ioctl(device, USERFAULTFD_IOC_NEW, POSTCOPY_FLAGS);
    saved = errno;
    close(device);
    return uffd < 0 ? -saved : uffd;
}

int vhu_postcopy_open(VhuError *err)
{
    struct uffdio_api api = {.api = UFFD_API};
    int uffd = postcopy_fd();
    int saved;

    if (uffd < 0) {
        return vhu_error_set(err, -uffd, VHOST_USER_POSTCOPY_ADVISE, 0,
                             "userfaultfd: %s", strerror(-uffd));
    }
    if (ioctl(uffd, UFFDIO_API, &api) < 0) {
        saved = errno;
        close(uffd);
        return vhu_error_set(err, saved, VHOST_USER_POSTCOPY_ADVISE, UFFD_API,
                             "UFFDIO_API: %s", strerror(saved));
    }
    if (!(api.features & UFFD_FEATURE_MISSING_SHMEM)) {
        close(uffd);
        return vhu_error_set(err, EOPNOTSUPP, VHOST_USER_POSTCOPY_ADVISE,
                             api.features,
                             "userfaultfd has features 0x%" PRIx64
                             ", shared memory is not among them",
                             (uint64_t)api.features);
    }
    return uffd;
}

bool vhu_postcopy_available(void)
{
    int uffd = vhu_postcopy_open(NULL);

    if (uffd < 0) {
        return false;
    }
    close(uffd);
    return true;
}

/* All pages that hold a byte of a region. */
static struct uffdio_range postcopy_range(const VhuRegionInfo *region)
{
    uint64_t mask = region->page_bytes - 1;
    uint64_t start = (uintptr_t)region->local & ~mask;
    uint64_t end = ((uintptr_t)region->local + region->size + mask) & ~mask;

    return (struct uffdio_range){.start = start, .len = end - start};
}

static int postcopy_register(int uffd, const VhuRegionInfo *region,
                             VhuError *err)
{
    struct uffdio_register range = {
        .range = postcopy_range(region),
        .mode = UFFDIO_REGISTER_MODE_MISSING,
    };

    if (ioctl(uffd, UFFDIO_REGISTER, &range) < 0) {
        return vhu_error_set(err, errno, VHOST_USER_POSTCOPY_LISTEN,
                             region->guest_addr,
                             "UFFDIO_REGISTER of the region at guest address "
                             "0x%" PRIx64 ", size 0x%" PRIx64 ": %s",
                             region->guest_addr, region->size, strerror(errno));
    }
    if (!(range.ioctls & (1ULL << _UFFDIO_COPY))) {
        return vhu_error_set(
            err, EOPNOTSUPP, VHOST_USER_POSTCOPY_LISTEN, range.ioctls,
            "the region at guest address 0x%" PRIx64 " takes ioctls 0x%" PRIx64
            ", UFFDIO_COPY is not among them",
            region->guest_addr, (uint64_t)range.ioctls);
    }
    return 0;
}

int vhu_postcopy_register(int uffd, const VhuMemory *memory, VhuError *err)
{
    VhuRegionInfo region;
    uint32_t i;
    int ret;

    for (i = 0; i < vhu_memory_num_regions(memory); i++) {
        region = vhu_memory_region(memory, i);
        ret = postcopy_register(uffd, &region, err);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

void vhu_postcopy_close(int uffd, const VhuMemory *memory)
{
    struct uffdio_range range;
    VhuRegionInfo region;
    uint32_t i;

    if (uffd < 0) {
        return;
    }
    for (i = 0; memory && i < vhu_memory_num_regions(memory); i++) {
        region = vhu_memory_region(memory, i);
        range = postcopy_range(&region);
        /* Fails for what was never registered: no harm. */
        ioctl(uffd, UFFDIO_UNREGISTER, &range);
    }
    close(uffd);
}

/* Our address of a region, or NULL. */
static uint8_t *postcopy_base(const VhuMemory *memory,
                              const VhuMemRegion *wanted)
{
    VhuRegionInfo region;
    uint32_t i;

    for (i = 0; i < vhu_memory_num_regions(memory); i++) {
        region = vhu_memory_region(memory, i);
        if (region.guest_addr == wanted->guest_addr &&
            region.user_addr == wanted->user_addr &&
            region.size == wanted->size) {
            return region.local;
        }
    }
    return NULL;
}

int vhu_postcopy_bases(const VhuMemory *memory, VhuMemTable *table)
{
    uint8_t *bases[VHU_MAX_TABLE_REGIONS];
    uint32_t i;

    if (table->num_regions > VHU_MAX_TABLE_REGIONS) {
        return -EINVAL;
    }
    for (i = 0; i < table->num_regions; i++) {
        bases[i] = postcopy_base(memory, &table->regions[i]);
        if (!bases[i]) {
            return -ENOENT;
        }
    }
    for (i = 0; i < table->num_regions; i++) {
        table->regions[i].user_addr = (uintptr_t)bases[i];
    }
    return 0;
}
