/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns the tests of what the codec refuses by value: messages with the right
 * form and wrong contents, received or to be sent.
 */
#include "vhu/message.h"
#include "tests/message-vectors.h"

#include <errno.h>
#include <glib.h>

#define BIT(name) VHU_PROTOCOL_BIT(name)

#define ROOM (VHU_HEADER_BYTES + VHU_MAX_PAYLOAD_BYTES)

static int decode(const VhuWire *wire, const uint8_t *bytes, bool reply,
                  VhuMessage *msg, VhuError *err)
{
    VhuHeader header;
    int ret = vhu_header_decode(wire, bytes, reply, &header, err);

    return ret ? ret
               : vhu_payload_decode(wire, &header, bytes + VHU_HEADER_BYTES,
                                    msg, err);
}

/* A message whose sizes are right and whose values are not. */
typedef struct Refusal {
    VhuDirection direction;
    uint64_t features;
    const char *bytes;
    uint64_t value;
    const char *text;
} Refusal;

static const Refusal refusals[] = {
    {
        .bytes = "2d000000 01000000 00000000",
        .value = 45,
        .text = "unknown front-end request 45",
    },
    {
        .bytes = "00000000 01000000 00000000",
        .text = "unknown front-end request 0",
    },
    {
        .direction = VHU_FROM_BACKEND,
        .bytes = "0b000000 01000000 00000000",
        .value = 11,
        .text = "unknown back-end request 11",
    },
    {
        .bytes = "0b000000 01000000 0c000000 00000000 00000000 00000000",
        .value = 12,
        .text = "GET_VRING_BASE request is 12 bytes, expected 8",
    },
    {
        .bytes =
            "05000000 01000000 10000000 00000000 00000000 0000000000000000",
        .value = 16,
        .text = "SET_MEM_TABLE request is 16 bytes, expected 8 to 264 by 32",
    },
    {
        .bytes = "1f000000 01000000 15000000 00",
        .value = 21,
        .text = "GET_INFLIGHT_FD request is 21 bytes, expected 20 or 24",
    },
    {
        .bytes = "18000000 01000000 0d100000 00",
        .value = 4109,
        .text = "GET_CONFIG request is 4109 bytes, expected 12 to 4108",
    },
    {
        .features = BIT(LOG_SHMFD),
        .bytes = "06000000 01000000 08000000 0000000000000000",
        .value = 8,
        .text = "SET_LOG_BASE request is 8 bytes, expected 16",
    },
    {
        .bytes = "05000000 01000000 08000000 01000000 00000000",
        .value = 1,
        .text = "SET_MEM_TABLE request: 1 regions, 8 bytes hold 0",
    },
    {
        .bytes = "05000000 01000000 08000000 ffffffff 00000000",
        .value = UINT32_MAX,
        .text = "SET_MEM_TABLE request: 4294967295 regions, 8 bytes hold 0",
    },
    {
        .bytes = "08000000 01000000 08000000 00010000 00010000",
        .value = 256,
        .text = "SET_VRING_NUM request: index 256, at most 255",
    },
    {
        .bytes = "0b000000 01000000 08000000 00000000 01000000",
        .value = 1,
        .text = "GET_VRING_BASE request: num 1, at most 0",
    },
    {
        .bytes = "23000000 01000000 08000000 00000000 02000000",
        .value = 2,
        .text = "VRING_KICK request: num 2, at most 0",
    },
    {
        .bytes = "12000000 01000000 08000000 00000000 02000000",
        .value = 2,
        .text = "SET_VRING_ENABLE request: num 2, at most 1",
    },
    {
        .bytes = "17000000 01000000 08000000 00000000 02000000",
        .value = 2,
        .text = "SET_VRING_ENDIAN request: num 2, at most 1",
    },
    {
        .direction = VHU_FROM_BACKEND,
        .bytes = "04000000 01000000 08000000 00000000 01000000",
        .value = 1,
        .text = "BACKEND_VRING_CALL request: num 1, at most 0",
    },
    {
        .direction = VHU_FROM_BACKEND,
        .bytes = "05000000 01000000 08000000 00000000 01000000",
        .value = 1,
        .text = "BACKEND_VRING_ERR request: num 1, at most 0",
    },
    {
        .bytes = "0c000000 01000000 08000000 0002000000000000",
        .value = 0x200,
        .text = "SET_VRING_KICK request: u64 512, at most 511",
    },
    {
        .direction = VHU_FROM_BACKEND,
        .bytes = "03000000 01000000 18000000 0000000001000000"
                 " 0000000000000000 0000000000000000",
        .value = 0x100000000,
        .text = "BACKEND_VRING_HOST_NOTIFIER_MSG request: u64 4294967296, "
                "at most 511",
    },
    {
        .bytes = "09000000 01000000 28000000 00000000 02000000"
                 " 0000000000000000 0000000000000000"
                 " 0000000000000000 0000000000000000",
        .value = 2,
        .text = "SET_VRING_ADDR request: flags 2, at most 1",
    },
    {
        .bytes = "09000000 01000000 28000000 00010000 00000000"
                 " 0000000000000000 0000000000000000"
                 " 0000000000000000 0000000000000000",
        .value = 256,
        .text = "SET_VRING_ADDR request: index 256, at most 255",
    },
    {
        .bytes = "16000000 01000000 20000000 0000000000000000"
                 " 0000000000000000 0000000000000000 04 02 000000000000",
        .value = 4,
        .text = "IOTLB_MSG request: permissions 4, at most 3",
    },
    {
        .bytes = "16000000 01000000 20000000 0000000000000000"
                 " 0000000000000000 0000000000000000 03 01 000000000000",
        .value = 1,
        .text = "IOTLB_MSG: type 1, expected 2 or 3",
    },
    {
        .direction = VHU_FROM_BACKEND,
        .bytes = "01000000 01000000 20000000 0000000000000000"
                 " 0000000000000000 0000000000000000 03 02 000000000000",
        .value = 2,
        .text = "BACKEND_IOTLB_MSG: type 2, expected 1 or 4",
    },
    {
        .bytes = "18000000 01000000 10000000 00000000 08000000 00000000"
                 " 00000000",
        .value = 8,
        .text = "GET_CONFIG request: size 8, 4 bytes follow",
    },
    {
        .bytes = "19000000 01000000 0c000000 00000000 01000000 00000000",
        .value = 1,
        .text = "SET_CONFIG request: size 1, 0 bytes follow",
    },
    {
        .bytes = "18000000 01000000 0c000000 00000000 01100000 00000000",
        .value = 4097,
        .text = "GET_CONFIG request: size 4097, at most 4096",
    },
    {
        .bytes = "18000000 01000000 0c000000 fd0f0000 04000000 00000000",
        .value = 4093,
        .text = "GET_CONFIG request: offset 4093, at most 4092",
    },
    {
        .bytes = "18000000 01000000 0c000000 ffffffff 04000000 00000000",
        .value = UINT32_MAX,
        .text = "GET_CONFIG request: offset 4294967295, at most 4092",
    },
};

static void test_wrong_values_are_refused(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(refusals); i++) {
        const Refusal *refusal = &refusals[i];
        VhuWire wire = {.direction = refusal->direction,
                        .protocol_features = refusal->features};
        uint8_t bytes[ROOM] = {0};
        VhuMessage msg;
        VhuError err = {0};

        hex_to_bytes(refusal->bytes, bytes, sizeof(bytes));
        g_assert_cmpint(decode(&wire, bytes, false, &msg, &err), ==, -EPROTO);
        g_assert_cmpstr(err.text, ==, refusal->text);
        g_assert_cmphex(err.value, ==, refusal->value);
        g_assert_cmpint(decode(&wire, bytes, false, &msg, NULL), ==, -EPROTO);
    }
}

static void test_too_many_shared_memory_regions_are_refused(void)
{
    VhuWire wire = {.direction = VHU_FROM_FRONTEND};
    uint8_t bytes[ROOM] = {0};
    VhuMessage msg;
    VhuError err = {0};

    hex_to_bytes("2c000000 05000000 08080000 01010000", bytes, sizeof(bytes));
    g_assert_cmpint(decode(&wire, bytes, true, &msg, &err), ==, -EPROTO);
    g_assert_cmpstr(err.text, ==,
                    "GET_SHMEM_CONFIG reply: num regions 257, at most 256");
}

/* It could not be told from the acknowledgement that the front end sends. */
static void test_an_empty_table_in_postcopy_is_refused(void)
{
    VhuWire wire = {.direction = VHU_FROM_FRONTEND, .postcopy_listening = true};
    uint8_t bytes[ROOM] = {0};
    VhuMessage msg;
    VhuError err = {0};

    hex_to_bytes("05000000 01000000 28000000 00000000", bytes, sizeof(bytes));
    g_assert_cmpint(decode(&wire, bytes, false, &msg, &err), ==, -EPROTO);
    g_assert_cmpstr(err.text, ==,
                    "SET_MEM_TABLE request: 0 regions while postcopy listens, "
                    "at least 1");
}

static void check_unencodable(const VhuWire *wire, const VhuMessage *msg,
                              const char *text)
{
    uint8_t bytes[ROOM];
    VhuError err = {0};

    g_assert_cmpint(vhu_message_encode(wire, msg, bytes, &err), ==, -EINVAL);
    g_assert_cmpstr(err.text, ==, text);
}

static void test_illegal_messages_are_not_encoded(void)
{
    VhuWire wire = {.direction = VHU_FROM_FRONTEND};
    VhuMessage msg = {.request = 45};

    check_unencodable(&wire, &msg, "unknown request 45");
    msg.request = VHOST_USER_SET_FEATURES;
    check_unencodable(&wire, &msg,
                      "SET_FEATURES request: payload is no payload, "
                      "expected u64");
    msg.kind = VHU_PAYLOAD_U64;
    msg.flags = 0x12;
    check_unencodable(&wire, &msg, "SET_FEATURES: flags 0x12, known are 0xd");

    msg = (VhuMessage){.request = VHOST_USER_SET_MEM_TABLE,
                       .kind = VHU_PAYLOAD_MEM_TABLE,
                       .payload.table.num_regions = 9};
    check_unencodable(&wire, &msg,
                      "SET_MEM_TABLE request: num regions 9, at most 8");
    msg = (VhuMessage){.request = VHOST_USER_SET_CONFIG,
                       .kind = VHU_PAYLOAD_CONFIG,
                       .payload.config = {.size = 4, .data_bytes = 5000}};
    check_unencodable(&wire, &msg,
                      "SET_CONFIG request: size 4, 5000 bytes follow");
    msg = (VhuMessage){.request = VHOST_USER_CREATE_CRYPTO_SESSION,
                       .kind = VHU_PAYLOAD_OPAQUE,
                       .payload.opaque.size = 4109};
    check_unencodable(&wire, &msg,
                      "CREATE_CRYPTO_SESSION request: bytes 4109, "
                      "at most 4108");
    msg.payload.opaque.size = 0;
    check_unencodable(&wire, &msg,
                      "CREATE_CRYPTO_SESSION request: 0 bytes, expected "
                      "1 to 4108");
    /* A u64 there would be read as index and base. */
    msg = (VhuMessage){.request = VHOST_USER_GET_VRING_BASE,
                       .flags = VHU_FLAG_REPLY,
                       .kind = VHU_PAYLOAD_U64};
    check_unencodable(&wire, &msg,
                      "GET_VRING_BASE reply: payload is u64, expected "
                      "vring state description");
}

static void test_encode_puts_the_version_in(void)
{
    VhuWire wire = {.direction = VHU_FROM_FRONTEND};
    VhuMessage msg = {.request = VHOST_USER_SET_OWNER,
                      .flags = VHU_FLAG_NEED_REPLY};
    uint8_t want[VHU_HEADER_BYTES];
    uint8_t bytes[ROOM];

    hex_to_bytes("03000000 09000000 00000000", want, sizeof(want));
    g_assert_cmpint(vhu_message_encode(&wire, &msg, bytes, NULL), ==, 12);
    g_assert_cmpmem(bytes, 12, want, 12);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/message/wrong-values-are-refused",
                    test_wrong_values_are_refused);
    g_test_add_func("/message/too-many-shared-memory-regions-are-refused",
                    test_too_many_shared_memory_regions_are_refused);
    g_test_add_func("/message/an-empty-table-in-postcopy-is-refused",
                    test_an_empty_table_in_postcopy_is_refused);
    g_test_add_func("/message/illegal-messages-are-not-encoded",
                    test_illegal_messages_are_not_encoded);
    g_test_add_func("/message/encode-puts-the-version-in",
                    test_encode_puts_the_version_in);
    return g_test_run();
}
