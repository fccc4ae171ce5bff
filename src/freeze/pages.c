#include "freeze/pages.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ioctl PAGEMAP_SCAN: Documentation/admin-guide/mm/pagemap.rst, kernel 6.7 and newer. */
struct page_region {
    uint64_t start, end, categories;
};
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_IOCTL _IOWR('f', 16, struct pm_scan_arg)
#define SCAN_FILE (1u << 2)
#define SCAN_PRESENT (1u << 3)
#define SCAN_SWAPPED (1u << 4)
#define SCAN_ZERO_PAGE (1u << 5)
#define SCAN_GUARD (1u << 8) /* 6.15; a guard page counts as swapped too */
/* Entries of the pagemap. */
#define ENTRY_PRESENT_OR_SWAPPED_SHIFT 62
#define ENTRY_FILE_SHIFT 61
#define ENTRY_GUARD_SHIFT 58

int pages_open(struct page_scanner *s, const struct tracee *tracee, struct error *err)
{
    *s = (struct page_scanner){.tracee = tracee};
    s->pagemap = openat(tracee->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
    if (s->pagemap < 0)
        return error_system(err, "cannot open the pagemap of process %d", tracee->inner_pid);
    return 0;
}

void pages_close(struct page_scanner *s)
{
    fd_close(&s->pagemap);
}

static int scan_with_ioctl(
    struct page_scanner *s, uint64_t from, uint64_t end, struct page_run *runs, size_t *count, uint64_t *next)
{
    struct page_region regions[PAGES_RUNS_MAX];
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = from,
        .end = end,
        .vec = (uint64_t)regions,
        .vec_len = PAGES_RUNS_MAX,
        .category_inverted = SCAN_FILE | SCAN_ZERO_PAGE,
        .category_mask = SCAN_FILE | SCAN_ZERO_PAGE,
        .category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
        .return_mask = s->no_guards ? SCAN_PRESENT : SCAN_PRESENT | SCAN_GUARD,
    };
    int n = ioctl(s->pagemap, PAGEMAP_SCAN_IOCTL, &arg);
    if (n < 0)
        return -1;
    for (int i = 0; i < n; i++)
        runs[i] = (struct page_run){regions[i].start, regions[i].end, regions[i].categories & SCAN_GUARD};
    *count = (size_t)n;
    *next = arg.walk_end;
    return 0;
}

static int scan_with_read(
    struct page_scanner *s, uint64_t from, uint64_t end, struct page_run *runs, size_t *count, uint64_t *next)
{
    uint64_t entries[PAGES_RUNS_MAX];
    size_t pages = (end - from) / PAGES_BYTES;
    if (pages > PAGES_RUNS_MAX)
        pages = PAGES_RUNS_MAX;
    ssize_t n =
        pread(s->pagemap, entries, pages * sizeof *entries, (off_t)(from / PAGES_BYTES * sizeof *entries));
    if (n <= 0)
        return -1;
    pages = (size_t)n / sizeof *entries;
    *count = 0;
    for (size_t i = 0; i < pages; i++) {
        bool guard = entries[i] >> ENTRY_GUARD_SHIFT & 1;
        bool own = guard || (entries[i] >> ENTRY_PRESENT_OR_SWAPPED_SHIFT != 0 &&
                                !(entries[i] >> ENTRY_FILE_SHIFT & 1));
        uint64_t address = from + i * PAGES_BYTES;
        struct page_run *last = *count > 0 ? &runs[*count - 1] : NULL;
        if (own && last != NULL && last->end == address && last->guard == guard)
            last->end += PAGES_BYTES;
        else if (own)
            runs[(*count)++] = (struct page_run){address, address + PAGES_BYTES, guard};
    }
    *next = from + pages * PAGES_BYTES;
    return 0;
}

int pages_scan(struct page_scanner *s, uint64_t from, uint64_t end, struct page_run *runs, size_t *count,
    uint64_t *next, struct error *err)
{
    while (!s->no_scan_ioctl) {
        if (scan_with_ioctl(s, from, end, runs, count, next) == 0)
            return 0;
        if (errno != ENOTTY && errno != EINVAL)
            return error_system(err, "cannot scan the pages of process %d", s->tracee->inner_pid);
        s->no_scan_ioctl = s->no_guards || errno == ENOTTY;
        s->no_guards = true;
    }
    if (scan_with_read(s, from, end, runs, count, next) == 0)
        return 0;
    return error_system(err, "cannot read the pagemap of process %d", s->tracee->inner_pid);
}
