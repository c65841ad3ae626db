/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the ways to lay a ring that a test is repeated over. */
#include "tests/rig-internal.h"

#define F(name) RIG_BIT(VIRTIO_##name)

/* What every combination is made of. */
static const struct {
    const char *name;
    uint64_t feature;
} axes[] = {
    {"packed", F(F_RING_PACKED)},       {"indirect", F(RING_F_INDIRECT_DESC)},
    {"event-idx", F(RING_F_EVENT_IDX)}, {"in-order", F(F_IN_ORDER)},
    {"iommu", F(F_ACCESS_PLATFORM)},
};

#define NO_GPA VHU_PROTOCOL_BIT(GPA_ADDRESSES)

/* What is tried with some of them only. The combinations above leave ring
 * addresses to GPA_ADDRESSES where it is offered. */
static const struct {
    const char *name;
    RigConfig config;
} extras[] = {
    {"user-addresses", {.protocol_masked = NO_GPA}},
    {"user-addresses+packed",
     {.protocol_masked = NO_GPA, .features = F(F_RING_PACKED)}},
    {"user-addresses+regions", {.protocol_masked = NO_GPA, .num_regions = 4}},
    {"inband", {.inband = true}},
    {"inband+packed+event-idx",
     {.inband = true, .features = F(F_RING_PACKED) | F(RING_F_EVENT_IDX)}},
    {"legacy", {.legacy = true}},
    {"legacy+notify-on-empty",
     {.legacy = true, .features = F(F_NOTIFY_ON_EMPTY)}},
    {"without-protocol-features", {.without_protocol_features = true}},
    {"polling", {.polling = true}},
    {"polling+packed", {.polling = true, .features = F(F_RING_PACKED)}},
    {"mem-table+regions",
     {.protocol_masked = VHU_PROTOCOL_BIT(CONFIGURE_MEM_SLOTS),
      .num_regions = 8}},
    {"regions", {.num_regions = 32}},
};

typedef struct Case {
    RigMatrixFn fn;
    RigConfig config;
} Case;

static void run_case(gconstpointer data)
{
    const Case *test = data;

    test->fn(&test->config);
}

static void add_case(const char *path, const char *name, RigMatrixFn fn,
                     const RigConfig *config)
{
    g_autofree char *full = g_strdup_printf("%s/%s", path, name);
    Case *test = g_new0(Case, 1);

    test->fn = fn;
    test->config = *config;
    g_test_add_data_func_full(full, test, run_case, g_free);
}

void rig_add_matrix(const char *path, RigMatrixFn fn)
{
    for (unsigned set = 0; set < 1u << G_N_ELEMENTS(axes); set++) {
        g_autoptr(GString) name = g_string_new(set & 1 ? NULL : "split");
        RigConfig config = {0};

        for (unsigned i = 0; i < G_N_ELEMENTS(axes); i++) {
            if (set & (1u << i)) {
                g_string_append_printf(name, "%s%s", name->len ? "+" : "",
                                       axes[i].name);
                config.features |= axes[i].feature;
            }
        }
        add_case(path, name->str, fn, &config);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(extras); i++) {
        add_case(path, extras[i].name, fn, &extras[i].config);
    }
}
