/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the gathering of one buffer: the checks that hold for both layouts,
 * translation of its pieces, access to indirect tables. How descriptors are
 * linked is the layouts' business.
 */
#include "vhu/ring-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/vhost_types.h>
#include <string.h>

#define DESC_BYTES      16u
#define MAX_CHAIN_BYTES (1ULL << 32)

void vhu_chain_reset(VhuRing *ring)
{
    ring->chain = (VhuChain){.iov = ring->chain.iov};
}

const char *vhu_chain_what(const VhuRing *ring)
{
    return ring->chain.indirect ? "indirect descriptor" : "descriptor";
}

/* What translation said of a descriptor's range, as an error of pop. */
static int translate_error(VhuRing *ring, const VhuDesc *desc, int ret)
{
    if (ret == -EAGAIN) {
        return ret;
    }
    if (ret == -E2BIG) {
        return vhu_error_set(&ring->broken, EPROTO, 0, VHU_MAX_PIECES,
                             "buffer %u has more than %u pieces",
                             ring->chain.id, VHU_MAX_PIECES);
    }
    return vhu_error_set(
        &ring->broken, EPROTO, 0, desc->addr,
        "%s %u: %" PRIu32 " bytes at 0x%" PRIx64 " cannot be reached",
        vhu_chain_what(ring), ring->chain.at, desc->len, desc->addr);
}

int vhu_chain_add(VhuRing *ring, const VhuDesc *desc)
{
    VhuChain *chain = &ring->chain;
    bool writable = desc->flags & VRING_DESC_F_WRITE;
    VhuTranslator translator = {.memory = ring->memory, .iotlb = ring->iotlb};
    VhuRange range = {
        .addr = desc->addr,
        .size = desc->len,
        .perm = writable ? VHOST_ACCESS_WO : VHOST_ACCESS_RO,
    };
    uint32_t used = chain->num_out + chain->num_in;
    int ret;

    if (chain->writable && !writable) {
        return vhu_error_set(&ring->broken, EPROTO, 0, chain->at,
                             "%s %u is readable after writable ones",
                             vhu_chain_what(ring), chain->at);
    }
    chain->writable = writable;
    if (chain->out_bytes + chain->in_bytes + desc->len > MAX_CHAIN_BYTES) {
        return vhu_error_set(&ring->broken, EPROTO, 0, desc->len,
                             "buffer %u has more than 2^32 bytes", chain->id);
    }
    ret = vhu_translate(&translator, &range, chain->iov + used,
                        (int)(VHU_MAX_PIECES - used), &ring->miss);
    if (ret < 0) {
        return translate_error(ring, desc, ret);
    }
    if (writable) {
        chain->num_in += (uint32_t)ret;
        chain->in_bytes += desc->len;
    } else {
        chain->num_out += (uint32_t)ret;
        chain->out_bytes += desc->len;
    }
    return 0;
}

/* Whether a descriptor may refer to a table, of that length. */
static int check_table(VhuRing *ring, const VhuDesc *desc)
{
    uint32_t at = ring->chain.at;

    if (!ring->indirect) {
        return vhu_error_set(&ring->broken, EPROTO, 0, at,
                             "descriptor %u is indirect, INDIRECT_DESC was "
                             "not negotiated",
                             at);
    }
    if (desc->len == 0 || desc->len % DESC_BYTES != 0) {
        return vhu_error_set(&ring->broken, EPROTO, 0, desc->len,
                             "descriptor %u: indirect table of %" PRIu32
                             " bytes",
                             at, desc->len);
    }
    return 0;
}

int vhu_chain_open_table(VhuRing *ring, const VhuDesc *desc, VhuTable *table)
{
    VhuTranslator translator = {.memory = ring->memory, .iotlb = ring->iotlb};
    VhuRange range = {
        .addr = desc->addr,
        .size = desc->len,
        .perm = VHOST_ACCESS_RO,
    };
    struct iovec iov;
    int ret;

    ret = check_table(ring, desc);
    if (ret < 0) {
        return ret;
    }
    *table = (VhuTable){.addr = desc->addr, .num = desc->len / DESC_BYTES};
    ret = vhu_translate(&translator, &range, &iov, 1, &ring->miss);
    if (ret < 0 && ret != -E2BIG) {
        return translate_error(ring, desc, ret);
    }
    if (ret > 0) {
        table->local = iov.iov_base;
    }
    ring->chain.indirect = true;
    return 0;
}

int vhu_chain_read_table(VhuRing *ring, const VhuTable *table, uint32_t index,
                         uint64_t words[2])
{
    VhuTranslator translator = {.memory = ring->memory, .iotlb = ring->iotlb};
    VhuDesc desc = {
        .addr = table->addr + (uint64_t)index * DESC_BYTES,
        .len = DESC_BYTES,
    };
    VhuRange range = {
        .addr = desc.addr,
        .size = desc.len,
        .perm = VHOST_ACCESS_RO,
    };
    struct iovec iov[DESC_BYTES];
    int num;

    ring->chain.at = index;
    if (table->local) {
        memcpy(words, table->local + (size_t)index * DESC_BYTES, DESC_BYTES);
    } else {
        num = vhu_translate(&translator, &range, iov, DESC_BYTES, &ring->miss);
        if (num < 0) {
            return translate_error(ring, &desc, num);
        }
        vhu_iov_gather(iov, (uint32_t)num, 0, words, DESC_BYTES);
    }
    /* The table may be unaligned, so these are no atomic loads; the compiler
     * must still not go back for a second look. */
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return 0;
}
