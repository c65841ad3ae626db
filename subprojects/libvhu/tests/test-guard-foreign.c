/* SPDX-License-Identifier: BSD-3-Clause */
/* Owns the tests of what the SIGBUS guard leaves to others. */
#include "tests/guard-world.h"
#include "tests/own-process.h"

/* A page whose access is a SIGBUS, mapped by nobody we know. */
static volatile uint8_t *stray_page(void *at)
{
    int file = shared_file(1);
    int flags = at ? MAP_SHARED | MAP_FIXED : MAP_SHARED;
    uint8_t *page = mmap(at, PAGE, PROT_READ | PROT_WRITE, flags, file, 0);

    g_assert_true(page != MAP_FAILED);
    g_assert_cmpint(ftruncate(file, 0), ==, 0);
    close(file);
    return page;
}

static void a_fault_elsewhere_ends_the_process(void)
{
    World world = world_new();

    *stray_page(NULL) = 1;
    world_free(&world);
}

static void a_fault_where_a_mapping_was_ends_the_process(void)
{
    World world = world_new();
    uint8_t *was = (uint8_t *)world.local;

    world_free(&world);
    *stray_page(was) = 1;
}

static void a_sent_signal_ends_the_process(void)
{
    World world = world_new();

    g_assert_cmpint(raise(SIGBUS), ==, 0);
    world_free(&world);
}

static void a_sent_signal_may_be_ignored(void)
{
    World world;

    signal(SIGBUS, SIG_IGN);
    world = world_new();
    g_assert_cmpint(raise(SIGBUS), ==, 0);
    g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
    g_assert_cmpuint(world.local[0], ==, 0);
    world_free(&world);
}

static void an_ignored_fault_elsewhere_ends_the_process(void)
{
    signal(SIGBUS, SIG_IGN);
    a_fault_elsewhere_ends_the_process();
}

static volatile uint8_t *expected_addr;

static void exit_with_info(int number, siginfo_t *info, void *context)
{
    (void)context;
    _exit(number == SIGBUS && info->si_addr == expected_addr ? 42 : 1);
}

static void a_handler_before_ours_gets_the_rest(void)
{
    struct sigaction action = {
        .sa_sigaction = exit_with_info,
        .sa_flags = SA_SIGINFO,
    };
    World world;

    sigaction(SIGBUS, &action, NULL);
    world = world_new();
    vhu_memory_guard_install();
    g_assert_cmpint(ftruncate(world.file, 0), ==, 0);
    g_assert_cmpuint(world.local[0], ==, 0);
    expected_addr = stray_page(NULL);
    *expected_addr = 1;
}

static void exit_with_number(int number)
{
    _exit(number == SIGBUS ? 43 : 1);
}

static void a_plain_handler_before_ours_gets_the_rest(void)
{
    World world;

    signal(SIGBUS, exit_with_number);
    world = world_new();
    *stray_page(NULL) = 1;
    world_free(&world);
}

/* The mapping that a fault must not be taken for. */
static VhuMemory *innocent;

static void exit_if_innocent(int number)
{
    _exit(number == SIGBUS && !vhu_memory_lost(innocent) ? 42 : 1);
}

/* If they touch, put a fault right past the lower one, in the other's place. */
static void fault_past(World *low, World *high)
{
    if (low->local + PAGES * PAGE == high->local) {
        innocent = low->memory;
        world_free(high);
        *stray_page((uint8_t *)low->local + PAGES * PAGE) = 1;
    }
}

static void a_fault_just_past_a_mapping_is_not_its_own(void)
{
    World worlds[64];
    unsigned i;

    signal(SIGBUS, exit_if_innocent);
    worlds[0] = world_new();
    /* The kernel puts one right above or below another before long. */
    for (i = 1; i < G_N_ELEMENTS(worlds); i++) {
        worlds[i] = world_new();
        fault_past(&worlds[i - 1], &worlds[i]);
        fault_past(&worlds[i], &worlds[i - 1]);
    }
    g_assert_not_reached();
}

static const ProcessTest tests[] = {
    {.path = "/guard/a-fault-elsewhere-ends-the-process",
     .run = a_fault_elsewhere_ends_the_process,
     .signal = SIGBUS},
    {.path = "/guard/a-fault-where-a-mapping-was-ends-the-process",
     .run = a_fault_where_a_mapping_was_ends_the_process,
     .signal = SIGBUS},
    {.path = "/guard/a-fault-just-past-a-mapping-is-not-its-own",
     .run = a_fault_just_past_a_mapping_is_not_its_own,
     .code = 42},
    {.path = "/guard/a-sent-signal-ends-the-process",
     .run = a_sent_signal_ends_the_process,
     .signal = SIGBUS},
    {.path = "/guard/a-sent-signal-may-be-ignored",
     .run = a_sent_signal_may_be_ignored},
    {.path = "/guard/an-ignored-fault-elsewhere-ends-the-process",
     .run = an_ignored_fault_elsewhere_ends_the_process,
     .signal = SIGBUS},
    {.path = "/guard/a-handler-before-ours-gets-the-rest",
     .run = a_handler_before_ours_gets_the_rest,
     .code = 42},
    {.path = "/guard/a-plain-handler-before-ours-gets-the-rest",
     .run = a_plain_handler_before_ours_gets_the_rest,
     .code = 43},
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    process_tests_add(tests, G_N_ELEMENTS(tests));
    return g_test_run();
}
