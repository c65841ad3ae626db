/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the driver of one page. Split buffer b has descriptors 4b to 4b + 2. */
#include "tests/tiny-driver.h"

#include <glib.h>
#include <string.h>

#define NEXT  1u
#define WRITE 2u

static void put16(uint8_t *memory, uint64_t at, uint16_t value)
{
    memory[at] = (uint8_t)value;
    memory[at + 1] = (uint8_t)(value >> 8);
}

static uint16_t get16(const uint8_t *memory, uint64_t at)
{
    return (uint16_t)(memory[at] | memory[at + 1] << 8);
}

/* Address and length; what follows differs. */
static void put_desc(const TinyDriver *driver, uint8_t *memory, uint64_t desc,
                     unsigned buffer, unsigned i)
{
    uint64_t addr = driver->data + 64 * buffer + 16 * i;

    for (unsigned byte = 0; byte < 8; byte++) {
        memory[16 * desc + byte] = (uint8_t)(addr >> 8 * byte);
    }
    put16(memory, 16 * desc + 8, 16);
    put16(memory, 16 * desc + 10, 0);
}

void tiny_init(TinyDriver *driver, uint8_t *memory, uint16_t at)
{
    uint16_t stale;

    if (!driver->packed) {
        driver->avail = at;
        driver->used = at;
        put16(memory, driver->driver_at + 2, at);
        put16(memory, driver->device_at + 2, at);
    } else {
        driver->avail = driver->used = at & 0x7fff;
        driver->avail_wrap = driver->used_wrap = at & 0x8000;
        /* As left behind: used in this lap, or in the one before. */
        for (uint32_t i = 0; i < driver->size; i++) {
            stale = (i < driver->used) == driver->used_wrap ? 0x8080 : 0;
            put16(memory, 16 * i + 14, stale);
        }
    }
    driver->num_out = 0;
    driver->free_descs = driver->packed ? driver->size : 4 * TINY_MAX_BUFFERS;
    memset(driver->num_descs, 0, sizeof(driver->num_descs));
}

static void add_split(TinyDriver *driver, uint8_t *memory, unsigned buffer,
                      unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        unsigned desc = 4 * buffer + i;

        put_desc(driver, memory, desc, buffer, i);
        put16(memory, 16 * desc + 12,
              (i + 1 < num ? NEXT : 0) | (i > 0 ? WRITE : 0));
        put16(memory, 16 * desc + 14, (uint16_t)(desc + 1));
    }
    put16(memory, driver->driver_at + 4 + 2 * (driver->avail % driver->size),
          (uint16_t)(4 * buffer));
    put16(memory, driver->driver_at + 2, ++driver->avail);
}

static void add_packed(TinyDriver *driver, uint8_t *memory, unsigned buffer,
                       unsigned num)
{
    for (unsigned i = 0; i < num; i++) {
        uint16_t desc = driver->avail;

        put_desc(driver, memory, desc, buffer, i);
        put16(memory, 16 * desc + 12, (uint16_t)buffer);
        put16(memory, 16 * desc + 14,
              (uint16_t)((driver->avail_wrap ? 0x80 : 0x8000) |
                         (i + 1 < num ? NEXT : 0) | (i > 0 ? WRITE : 0)));
        if (++driver->avail == driver->size) {
            driver->avail = 0;
            driver->avail_wrap = !driver->avail_wrap;
        }
    }
}

bool tiny_add(TinyDriver *driver, uint8_t *memory, unsigned buffer,
              unsigned num_descs)
{
    if (driver->num_descs[buffer] > 0 || num_descs > driver->free_descs) {
        return false;
    }
    if (driver->packed) {
        add_packed(driver, memory, buffer, num_descs);
    } else {
        add_split(driver, memory, buffer, num_descs);
    }
    driver->num_descs[buffer] = (uint8_t)num_descs;
    driver->order[driver->num_out++] = (uint8_t)buffer;
    driver->free_descs -= num_descs;
    return true;
}

static void take(TinyDriver *driver, unsigned buffer)
{
    unsigned i = 0;

    g_assert_cmpuint(buffer, <, TINY_MAX_BUFFERS);
    g_assert_cmpuint(driver->num_descs[buffer], >, 0);
    while (driver->order[i] != buffer) {
        i++;
    }
    if (driver->in_order) {
        g_assert_cmpuint(i, ==, 0);
    }
    driver->num_out--;
    memmove(&driver->order[i], &driver->order[i + 1], driver->num_out - i);
    driver->free_descs += driver->num_descs[buffer];
    driver->num_descs[buffer] = 0;
}

static void reap_packed(TinyDriver *driver, const uint8_t *memory)
{
    unsigned buffer;
    unsigned num;

    while ((get16(memory, 16 * driver->used + 14) & 0x8080) ==
           (driver->used_wrap ? 0x8080 : 0)) {
        buffer = get16(memory, 16 * driver->used + 12);
        g_assert_cmpuint(buffer, <, TINY_MAX_BUFFERS);
        num = driver->num_descs[buffer];
        take(driver, buffer);
        driver->used = (uint16_t)(driver->used + num);
        if (driver->used >= driver->size) {
            driver->used = (uint16_t)(driver->used - driver->size);
            driver->used_wrap = !driver->used_wrap;
        }
    }
}

void tiny_reap(TinyDriver *driver, const uint8_t *memory)
{
    uint64_t entry;

    if (driver->packed) {
        reap_packed(driver, memory);
        return;
    }
    while (driver->used != get16(memory, driver->device_at + 2)) {
        entry = driver->device_at + 4 + 8 * (driver->used % driver->size);
        g_assert_cmpuint(get16(memory, entry) % 4, ==, 0);
        take(driver, tiny_buffer(driver, get16(memory, entry)));
        driver->used++;
    }
}

unsigned tiny_buffer(const TinyDriver *driver, uint32_t id)
{
    return driver->packed ? id : id / 4;
}

uint32_t tiny_base(const TinyDriver *driver)
{
    uint32_t at = driver->avail | (driver->avail_wrap ? 0x8000u : 0);

    return driver->packed ? at | at << 16 : driver->avail;
}
