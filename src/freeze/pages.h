/* Which pages of an address range a process has written, and where its guard regions are. */
#pragma once

#include "base/error.h"
#include "freeze/tracee.h"

#define PAGES_BYTES 4096ul
#define PAGES_RUNS_MAX 512

struct page_run {
    uint64_t start, end;
    bool guard; /* of MADV_GUARD_INSTALL: any access faults */
};

struct page_runs {         /* ascending, apart */
    struct page_run *list; /* owned */
    size_t count;
};

struct page_scanner {
    const struct tracee *tracee;
    int pagemap;
    bool no_guards;     /* a kernel before 6.15: it does not tell them */
    bool no_scan_ioctl; /* before 6.7: the pagemap itself is read */
};

MUST_CHECK int pages_open(struct page_scanner *s, const struct tracee *tracee, struct error *err);
void pages_close(struct page_scanner *s);
/* What is the process's own in [from, end), a few runs (at most PAGES_RUNS_MAX) at a time; *next is where to go on. */
MUST_CHECK int pages_scan(struct page_scanner *s, uint64_t from, uint64_t end, struct page_run *runs,
    size_t *count, uint64_t *next, struct error *err);
