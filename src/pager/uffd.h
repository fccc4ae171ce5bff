/* The calls of userfaultfd, and what their errors mean. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum uffd_result {
    UFFD_DONE = 0, /* all of it */
    UFFD_EXISTS,   /* stopped at a page that is there already */
    UFFD_CHANGING, /* stopped: the memory is being changed; read the events, then try again */
    UFFD_NOT_HERE, /* stopped: not (or not all in one mapping) of the memory that is served */
    UFFD_GONE,     /* the address space is no more */
    UFFD_FULL,     /* stopped: no memory for its pages */
    UFFD_FAILED,   /* errno says why */
};

/* *done: the bytes that are in, from the start on. All addresses and lengths are whole pages. */
enum uffd_result uffd_copy(int fd, uint64_t address, const void *from, uint64_t bytes, uint64_t *done);
enum uffd_result uffd_zero(int fd, uint64_t address, uint64_t bytes, uint64_t *done);
/* Whoever waits for these pages looks again. */
void uffd_wake(int fd, uint64_t address, uint64_t bytes);
MUST_CHECK int uffd_register(int fd, uint64_t start, uint64_t end, struct error *err);
/* UFFD_DONE, UFFD_GONE, or UFFD_NOT_HERE: there is other memory now. */
enum uffd_result uffd_unregister(int fd, uint64_t start, uint64_t end);
/* Whether an address space still exists. For any descriptor: what is no userfaultfd does not live. */
bool uffd_lives(int fd);
/* Whether there is a change that is not yet heard of, or not yet done. */
bool uffd_changes(int fd);
