/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Owns what fuzz targets share: the seeds as files for libFuzzer, or, in a
 * build without it, the replay. Either way the program prints TAP, whose one
 * line comes last: a target that dies never prints it.
 *
 *     fuzz-vhu-NAME FILE...     replay files, as libFuzzer leaves them behind
 */
#include "fuzz/fuzz.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t executions;

static void run(const uint8_t *bytes, size_t size)
{
    executions++;
    fuzz_one(bytes, size);
}

static void print_result(void)
{
    printf("# result: fuzz-%s executions: %" PRIu64 "\n", fuzz_name,
           executions);
    printf("1..1\nok 1 /fuzz/%s/keeps-its-promises\n", fuzz_name);
}

#ifdef FUZZING

#include <dirent.h>
#include <err.h>
#include <unistd.h>

/* Where the seeds are, and what libFuzzer adds to them; in the build folder. */
static char corpus[] = "fuzz-corpus-XXXXXX";

static void corpus_path(const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", corpus, name);
}

static void finish(void)
{
    DIR *dir = opendir(corpus);
    const struct dirent *entry;
    char path[512];

    while (dir && (entry = readdir(dir))) {
        corpus_path(entry->d_name, path, sizeof(path));
        unlink(path);
    }
    if (dir) {
        closedir(dir);
    }
    rmdir(corpus);
    print_result();
}

static void write_seeds(void)
{
    uint8_t bytes[FUZZ_SEED_BYTES];
    char name[32];
    char path[64];
    size_t size;

    if (!mkdtemp(corpus)) {
        err(1, "%s", corpus);
    }
    for (unsigned i = 0; (size = fuzz_seed(i, bytes)); i++) {
        FILE *file;

        snprintf(name, sizeof(name), "seed-%u", i);
        corpus_path(name, path, sizeof(path));
        file = fopen(path, "w");
        if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) {
            err(1, "%s", path);
        }
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/*
 * Without a corpus or files on the command line, start from the seeds, in a
 * folder that is removed at the end.
 */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char **longer;

    for (int i = 1; i < *argc; i++) {
        if ((*argv)[i][0] != '-') {
            return 0;
        }
    }
    longer = calloc((size_t)*argc + 2, sizeof(*longer));
    if (!longer) {
        err(1, "fuzz-%s", fuzz_name);
    }
    memcpy(longer, *argv, (size_t)*argc * sizeof(*longer));
    write_seeds();
    longer[(*argc)++] = corpus;
    *argv = longer;
    atexit(finish);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    run(bytes, size);
    return 0;
}

#else

/* A seed, each of its beginnings, and each of its bytes made another. */
static void run_around(uint8_t *bytes, size_t size)
{
    static const uint8_t changes[] = {0x01, 0x80, 0xff};

    for (size_t length = 0; length <= size; length++) {
        run(bytes, length);
    }
    for (size_t at = 0; at < size; at++) {
        for (size_t i = 0; i < sizeof(changes); i++) {
            bytes[at] ^= changes[i];
            run(bytes, size);
            bytes[at] ^= changes[i];
        }
    }
}

static int run_file(const char *path)
{
    uint8_t *bytes = malloc(1024 * 1024);
    FILE *file = fopen(path, "r");
    int ret = 1;

    if (bytes && file) {
        run(bytes, fread(bytes, 1, 1024 * 1024, file));
        ret = 0;
    } else {
        perror(path);
    }
    if (file) {
        fclose(file);
    }
    free(bytes);
    return ret;
}

int main(int argc, char **argv)
{
    uint8_t bytes[FUZZ_SEED_BYTES];
    size_t size;

    for (int i = 1; i < argc; i++) {
        if (run_file(argv[i])) {
            return 1;
        }
    }
    for (unsigned i = 0; argc == 1 && (size = fuzz_seed(i, bytes)); i++) {
        run_around(bytes, size);
    }
    print_result();
    return 0;
}

#endif
