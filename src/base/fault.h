/* Fault points: spots at which a test can have the daemon die, or a call fail. They do nothing at all (one test of
 * a flag) unless thawd was started with
 *
 *    THAWD_FAULT=NAME[:COUNT[:ERRNO]]     publish.chunks_synced    publish.manifest_write:1:ENOSPC
 *
 * The COUNT-th time (the first, when none is given; all processes of a role count together) that the spot NAME is
 * reached, the daemon is killed with SIGKILL: a child of the warden kills the warden first, then itself. A front kills
 * itself, which the warden survives long enough to end what it started. With an ERRNO, the spot's call fails with it
 * instead, once.
 *
 * Names begin with what is being done: "publish.", "delete.", "evict.", "gc.", "rotate.", "hot.", "catalog.", "refreeze.". Every use
 * of the macros is a line of `thawd --list-fault-points`, so the list cannot go stale, and
 * tests/chaos/test_fault_points.py fails for a point that it does not know how to reach. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>

struct fault_site {
    const char *name;
    bool may_fail; /* an errno can be injected here, too */
};

extern bool fault_armed; /* by fault_open, and never again changed */

/* Use the macros. True: errno was set, and the call is to be taken as failed. */
bool fault_reached(const struct fault_site *site);

#define FAULT_SITE(name_, may_fail_) \
    static const struct fault_site fault_site_here = {(name_), (may_fail_)}; \
    static const struct fault_site *const fault_site_listed __attribute__((section("fault_points"), used)) = \
        &fault_site_here

/* The daemon may die here. */
#define fault_point(name) \
    do { \
        FAULT_SITE(name, false); \
        (void)fault_site_listed; \
        if (__builtin_expect(fault_armed, 0)) \
            (void)fault_reached(&fault_site_here); \
    } while (0)

/* As a condition before the call that may fail: if (fault_fails("publish.sync") || syncfs(fd) < 0). Also a point at
 * which the daemon may die. */
#define fault_fails(name) \
    ({ \
        FAULT_SITE(name, true); \
        (void)fault_site_listed; \
        __builtin_expect(fault_armed, 0) && fault_reached(&fault_site_here); \
    })

/* Reads THAWD_FAULT; the calling process is the one to be killed with its children. A name or errno that does not
 * exist is ERROR_INVALID. *armed (for the log) says what is armed, or is NULL. */
MUST_CHECK int fault_open(const char **armed, struct error *err);
/* "NAME" or "NAME errno", a line each, sorted. */
void fault_list(FILE *out);
