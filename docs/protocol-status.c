/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owns the manual's tables of protocol features and messages, printed as
 * reStructuredText from the library's own. Knows nothing of the protocol.
 */
#include "vhu/protocol.h"

#include <stdio.h>
#include <string.h>

static const char *const support_text[] = {
    [VHU_SUPPORT_CODEC_ONLY] = "never offered",
    [VHU_SUPPORT_OFFERED] = "yes",
    [VHU_SUPPORT_DEVICE] = "if the device asks",
};

static const struct {
    VhuDirection direction;
    const char *title;
} directions[] = {
    {VHU_FROM_FRONTEND, "Requests of the front end"},
    {VHU_FROM_BACKEND, "Requests of the back end"},
};

/* A feature's name without what all of them begin with. */
static const char *short_name(unsigned bit)
{
    static const char prefix[] = "VHOST_USER_PROTOCOL_F_";
    const char *name = vhu_feature_spec(bit)->name;

    return strncmp(name, prefix, strlen(prefix)) == 0 ? name + strlen(prefix)
                                                      : name;
}

static void print_title(const char *title, const char *header)
{
    size_t i;

    printf("%s\n", title);
    for (i = 0; i < strlen(title); i++) {
        putchar('=');
    }
    printf("\n\n.. csv-table::\n   :header: %s\n\n", header);
}

static void print_needs(uint64_t needs)
{
    const char *separator = "";
    unsigned bit;

    for (bit = 0; vhu_feature_spec(bit); bit++) {
        if (needs & (1ULL << bit)) {
            printf("%s%s", separator, short_name(bit));
            separator = " ";
        }
    }
}

static void print_features(void)
{
    const VhuFeatureSpec *spec;
    unsigned bit;

    print_title("Protocol features",
                "bit, feature, what for, back end, front end, needs");
    for (bit = 0; (spec = vhu_feature_spec(bit)) != NULL; bit++) {
        printf("   %u, ``%s``, \"%s\", %s, %s, \"", bit, short_name(bit),
               spec->summary, support_text[spec->backend],
               support_text[spec->frontend]);
        print_needs(spec->needs);
        printf("\"\n");
    }
    printf("\n");
}

/* "0-8 fds", "1 fd", or nothing for none. */
static void print_fds(unsigned min, unsigned max)
{
    if (min < max) {
        printf(", %u-%u fds", min, max);
    } else if (max > 0) {
        printf(", %u fd%s", max, max > 1 ? "s" : "");
    }
}

static void print_message(uint32_t request, const VhuMessageSpec *spec)
{
    printf("   %u, ``%s``, \"%s", request, spec->name,
           vhu_payload_name(spec->request));
    print_fds(spec->request_fds_min, spec->request_fds_max);
    printf("\", \"");
    if (spec->reply_rule == VHU_REPLY_ON_ACK) {
        printf("on need_reply");
    } else {
        printf("%s", vhu_payload_name(spec->reply));
        print_fds(spec->reply_fds_min, spec->reply_fds_max);
    }
    printf("\", %s\n",
           spec->gate == VHU_NO_GATE ? "" : short_name((unsigned)spec->gate));
}

static void print_messages(VhuDirection direction, const char *title)
{
    uint32_t request;

    print_title(title, "number, request, payload, reply, feature");
    for (request = 1; request < vhu_message_end(direction); request++) {
        const VhuMessageSpec *spec = vhu_message_spec(direction, request);

        if (spec) {
            print_message(request, spec);
        }
    }
    printf("\n");
}

int main(void)
{
    size_t i;

    print_features();
    for (i = 0; i < sizeof(directions) / sizeof(directions[0]); i++) {
        print_messages(directions[i].direction, directions[i].title);
    }
    return 0;
}
