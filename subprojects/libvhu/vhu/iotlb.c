/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the device IOTLB and the translation of what a ring addresses. Does
 * not send misses to the front end: the back end does, with what is filled in.
 *
 * Theory of operation. Entries never overlap: an update first cuts away what
 * it covers. So "disjoint" orders them, and a search for any range with
 * "overlaps" meaning "equal" finds an entry of that range in the C library's
 * balanced tree. A list in order of age tells which entry to evict. Readers
 * hold the lock shared, for one translation at a time.
 */
#include "vhu/iotlb.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vhost_types.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef struct Entry {
    VhuGuestAddr first; /* IOVA */
    VhuGuestAddr last;  /* inclusive, so that no end overflows */
    VhuUserAddr user;   /* what first is in the front end */
    uint8_t perm;       /* VHOST_ACCESS_*; 0: none */
    struct Entry *older;
    struct Entry *newer;
} Entry;

struct VhuIotlb {
    pthread_rwlock_t lock;
    void *tree; /* of Entry, see entry_compare */
    Entry ages; /* ends of the list: its newer is the oldest entry */
    uint32_t num_entries;
    atomic_uint_fast64_t generation;
};

/* Ranges that overlap compare equal. */
static int entry_compare(const void *a, const void *b)
{
    const Entry *left = a;
    const Entry *right = b;

    if (left->last < right->first) {
        return -1;
    }
    return left->first > right->last;
}

/* An entry that overlaps a range, or NULL. */
static Entry *iotlb_find(VhuIotlb *iotlb, VhuGuestAddr first, VhuGuestAddr last)
{
    Entry key = {.first = first, .last = last};
    Entry **node = tfind(&key, &iotlb->tree, entry_compare);

    return node ? *node : NULL;
}

/* Out of tree and list; it is the caller's then. */
static void iotlb_unlink(VhuIotlb *iotlb, Entry *entry)
{
    tdelete(entry, &iotlb->tree, entry_compare);
    entry->older->newer = entry->newer;
    entry->newer->older = entry->older;
    iotlb->num_entries--;
}

/*
 * Into the tree, and into the list just before @peer, the next newer one. The
 * caller has made room in the address space. Consumes the entry on failure.
 */
static bool iotlb_link(VhuIotlb *iotlb, Entry *entry, Entry *peer)
{
    if (!tsearch(entry, &iotlb->tree, entry_compare)) {
        free(entry);
        return false;
    }
    entry->older = peer->older;
    entry->newer = peer;
    entry->older->newer = entry;
    peer->older = entry;
    iotlb->num_entries++;
    return true;
}

/* Add what is left of an entry on one side of a cut. Without memory it is
 * forgotten, which costs a miss and no more. */
static void iotlb_add_rest(VhuIotlb *iotlb, const Entry *whole,
                           VhuGuestAddr first, VhuGuestAddr last, Entry *peer)
{
    Entry *rest = malloc(sizeof(*rest));

    if (!rest) {
        return;
    }
    *rest = *whole;
    rest->first = first;
    rest->last = last;
    rest->user = whole->user + (first - whole->first);
    iotlb_link(iotlb, rest, peer);
}

/* Forget a range; entries that it covers in part are cut. */
static void iotlb_cut(VhuIotlb *iotlb, VhuGuestAddr first, VhuGuestAddr last)
{
    Entry *entry;
    Entry *peer;

    while ((entry = iotlb_find(iotlb, first, last))) {
        peer = entry->newer;
        iotlb_unlink(iotlb, entry);
        if (entry->first < first) {
            iotlb_add_rest(iotlb, entry, entry->first, first - 1, peer);
        }
        if (entry->last > last) {
            iotlb_add_rest(iotlb, entry, last + 1, entry->last, peer);
        }
        free(entry);
    }
}

/* Evict the oldest until no more are kept than may be. */
static void iotlb_bound(VhuIotlb *iotlb)
{
    Entry *entry;

    while (iotlb->num_entries > VHU_IOTLB_ENTRIES) {
        entry = iotlb->ages.newer;
        iotlb_unlink(iotlb, entry);
        free(entry);
    }
}

VhuIotlb *vhu_iotlb_new(void)
{
    VhuIotlb *iotlb = calloc(1, sizeof(*iotlb));
    pthread_rwlockattr_t attr;

    if (!iotlb) {
        return NULL;
    }
    iotlb->ages.older = &iotlb->ages;
    iotlb->ages.newer = &iotlb->ages;
    /* Readers that never pause must not keep an invalidation waiting. */
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr,
                                  PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&iotlb->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    return iotlb;
}

static void iotlb_drop_all(VhuIotlb *iotlb)
{
    while (iotlb->num_entries > 0) {
        Entry *entry = iotlb->ages.newer;

        iotlb_unlink(iotlb, entry);
        free(entry);
    }
}

void vhu_iotlb_free(VhuIotlb *iotlb)
{
    if (!iotlb) {
        return;
    }
    iotlb_drop_all(iotlb);
    pthread_rwlock_destroy(&iotlb->lock);
    free(iotlb);
}

/* That a message is one, and that the front end only maps what it shares. */
static int iotlb_check(const VhuIotlbMsg *msg, const VhuMemory *memory,
                       VhuError *err)
{
    struct iovec pieces[VHU_MAX_MEM_SLOTS];

    if (msg->type != VHOST_IOTLB_UPDATE &&
        msg->type != VHOST_IOTLB_INVALIDATE) {
        return vhu_error_set(err, EINVAL, VHOST_USER_IOTLB_MSG, msg->type,
                             "IOTLB message of type %u, expected %u or %u",
                             msg->type, VHOST_IOTLB_UPDATE,
                             VHOST_IOTLB_INVALIDATE);
    }
    if (msg->size == 0 || msg->iova > UINT64_MAX - (msg->size - 1)) {
        return vhu_error_set(err, EINVAL, VHOST_USER_IOTLB_MSG, msg->size,
                             "IOTLB message about 0x%" PRIx64
                             " bytes at 0x%" PRIx64 " is empty or overflows",
                             msg->size, msg->iova);
    }
    if (msg->type == VHOST_IOTLB_INVALIDATE) {
        return 0;
    }
    if (msg->perm > VHOST_ACCESS_RW) {
        return vhu_error_set(err, EINVAL, VHOST_USER_IOTLB_MSG, msg->perm,
                             "IOTLB update has permissions 0x%x, at most 0x%x",
                             msg->perm, VHOST_ACCESS_RW);
    }
    if (vhu_memory_user_iov(memory, msg->user_addr, msg->size, pieces,
                            VHU_MAX_MEM_SLOTS) < 0) {
        return vhu_error_set(err, EINVAL, VHOST_USER_IOTLB_MSG, msg->user_addr,
                             "IOTLB update maps 0x%" PRIx64
                             " bytes at user address 0x%" PRIx64
                             ", not within the memory regions",
                             msg->size, msg->user_addr);
    }
    return 0;
}

int vhu_iotlb_apply(VhuIotlb *iotlb, const VhuIotlbMsg *msg,
                    const VhuMemory *memory, VhuError *err)
{
    Entry *entry = NULL;
    bool kept = true;
    int ret;

    ret = iotlb_check(msg, memory, err);
    if (ret < 0) {
        return ret;
    }
    pthread_rwlock_wrlock(&iotlb->lock);
    iotlb_cut(iotlb, msg->iova, msg->iova + (msg->size - 1));
    if (msg->type == VHOST_IOTLB_UPDATE) {
        entry = malloc(sizeof(*entry));
        kept = entry != NULL;
    }
    if (entry) {
        *entry = (Entry){
            .first = msg->iova,
            .last = msg->iova + (msg->size - 1),
            .user = msg->user_addr,
            .perm = msg->perm,
        };
        kept = iotlb_link(iotlb, entry, &iotlb->ages);
    }
    iotlb_bound(iotlb);
    pthread_rwlock_unlock(&iotlb->lock);
    atomic_fetch_add(&iotlb->generation, 1);
    if (!kept) {
        return vhu_error_set(err, ENOMEM, VHOST_USER_IOTLB_MSG, 0,
                             "out of memory");
    }
    return 0;
}

void vhu_iotlb_clear(VhuIotlb *iotlb)
{
    pthread_rwlock_wrlock(&iotlb->lock);
    iotlb_drop_all(iotlb);
    iotlb->generation++;
    pthread_rwlock_unlock(&iotlb->lock);
}

uint64_t vhu_iotlb_generation(const VhuIotlb *iotlb)
{
    return atomic_load(&iotlb->generation);
}

/*
 * How much of a range, from its start, is one piece in the front end: pages
 * that a guest maps one by one are mostly neighbours, and each piece saved is
 * one entry less in the vector. Fills user and returns the bytes; 0 with ret
 * filled if not even the first byte may be accessed.
 */
static uint64_t iotlb_run(VhuIotlb *iotlb, const VhuRange *range,
                          VhuUserAddr *user, int *ret)
{
    uint64_t run = 0;
    uint64_t piece;
    VhuGuestAddr addr;
    Entry *entry;

    while (run < range->size) {
        addr = range->addr + run;
        entry = iotlb_find(iotlb, addr, addr);
        if (!entry || (entry->perm & range->perm) != range->perm) {
            *ret = entry ? -EFAULT : -EAGAIN;
            return run;
        }
        if (run == 0) {
            *user = entry->user + (addr - entry->first);
        } else if (*user + run != entry->user) {
            return run;
        }
        piece = entry->last - addr;
        run += piece < range->size - run - 1 ? piece + 1 : range->size - run;
    }
    return run;
}

static int iotlb_translate(const VhuTranslator *translator, VhuRange range,
                           struct iovec *iov, int room, VhuIotlbMiss *miss)
{
    VhuUserAddr user = 0;
    uint64_t run;
    int used = 0;
    int ret = 0;

    while (range.size > 0) {
        run = iotlb_run(translator->iotlb, &range, &user, &ret);
        if (run == 0) {
            *miss = (VhuIotlbMiss){.iova = range.addr, .perm = range.perm};
            return ret;
        }
        ret = vhu_memory_user_iov(translator->memory, user, run, iov + used,
                                  room - used);
        if (ret < 0) {
            return ret;
        }
        used += ret;
        range.addr += run;
        range.size -= run;
    }
    return used;
}

int vhu_translate(const VhuTranslator *translator, const VhuRange *range,
                  struct iovec *iov, int room, VhuIotlbMiss *miss)
{
    int ret;

    *miss = (VhuIotlbMiss){0};
    if (!translator->iotlb) {
        return vhu_memory_guest_iov(translator->memory, range->addr,
                                    range->size, iov, room);
    }
    if (range->size > 0 && range->addr > UINT64_MAX - (range->size - 1)) {
        return -EFAULT;
    }
    pthread_rwlock_rdlock(&translator->iotlb->lock);
    ret = iotlb_translate(translator, *range, iov, room, miss);
    pthread_rwlock_unlock(&translator->iotlb->lock);
    return ret;
}
