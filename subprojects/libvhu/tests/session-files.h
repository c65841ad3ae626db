/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory for tests of a front-end session, and its regions in bytes. */
#ifndef VHU_TESTS_SESSION_FILES_H
#define VHU_TESTS_SESSION_FILES_H

#include "tests/script.h"
#include "vhu/frontend.h"

/* Two files, and three regions of them. */
typedef struct SessionFiles {
    int fds[3];
    VhuMemRegion regions[3];
} SessionFiles;

/* The regions as the wire has them: guest address, size, user address; AT
 * gives the offset into the file. */
#define LOW        "00000000 00000000 00000a00 00000000 00000000 007f0000"
#define MIDDLE     "00001000 00000000 00001000 00000000 00001000 007f0000"
#define HIGH       "00000000 01000000 00002000 00000000 00000000 107f0000"
#define AT(offset) offset " 00000000"

/** Make the files. */
SessionFiles session_files(void);

/** Close them. */
void session_close_files(const SessionFiles *files);

/** The first @num of the regions. */
VhuFrontendMemory session_first(const SessionFiles *files, uint32_t num);

/** Check that the next fd received is of this file. */
void session_expect_file(Script *script, int fd);

#endif
