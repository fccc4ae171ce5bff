#include "thaw/working_set.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define PAGE 4096ull
#define LOWEST 0x10000ull
#define HIGHEST 0x7ffffffff000ull
#define HUGE_PAGE (512 * PAGE)
#define HUGE_WORTH_PAGES 256 /* of the 512 that a fork then copies, for half the cost of a fault each */
#define REGIONS 256
#define ENTRIES 512

/* /proc/PID/pagemap, see Documentation/admin-guide/mm/pagemap.rst. */
#define ENTRY_PRESENT (1ull << 63)
#define ENTRY_EXCLUSIVE (1ull << 56)
#define IS_FILE (1u << 2)
#define IS_PRESENT (1u << 3)
#define IS_ZERO_PAGE (1u << 5)
#define IS_HUGE (1u << 6)

struct region {
    uint64_t start, end, categories;
};
struct scan { /* struct pm_scan_arg, which is newer than the headers */
    uint64_t size, flags, start, end, walk_end, regions, region_count, pages_max;
    uint64_t inverted, all_of, any_of, told;
};
#define SCAN_PAGES _IOWR('f', 16, struct scan)

void working_set_free(struct working_set *set)
{
    free(set->ranges);
    *set = (struct working_set){0};
}

void working_set_add(struct working_set *set, uint64_t start, uint64_t bytes)
{
    uint64_t room = (WORKING_SET_PAGES_MAX - set->pages) * PAGE;
    bytes = bytes < room ? bytes : room;
    struct working_range *last = set->count > 0 ? &set->ranges[set->count - 1] : NULL;
    if (bytes == 0)
        return;
    if (last != NULL && last->start + last->bytes == start) {
        last->bytes += bytes;
    } else {
        if (set->count == WORKING_SET_RANGES_MAX)
            return;
        if (set->count == set->capacity) {
            set->capacity = set->capacity > 0 ? 2 * set->capacity : 256;
            set->ranges = xrealloc(set->ranges, set->capacity * sizeof *set->ranges);
        }
        set->ranges[set->count++] = (struct working_range){start, bytes};
    }
    set->pages += (uint32_t)(bytes / PAGE);
}

typedef int (*region_function)(void *context, int pagemap, const struct region *region, struct error *err);

/* Calls `each` for every region of present pages that belong to no file, in ascending order: those of 4 KiB and, when
 * they are wanted too, huge ones, apart (categories). */
static int scan_pages(pid_t pid, bool huge, region_function each, void *context, struct error *err)
{
    char path[32];
    struct region regions[REGIONS];
    uint64_t without = IS_FILE | IS_ZERO_PAGE | (huge ? 0 : IS_HUGE);
    struct scan scan = {.size = sizeof scan,
        .start = LOWEST,
        .end = HIGHEST,
        .regions = (uint64_t)regions,
        .region_count = REGIONS,
        .inverted = without,
        .all_of = IS_PRESENT | without,
        .told = IS_PRESENT | IS_HUGE};
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    CLEANUP_FD int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return error_system(err, "cannot open %s", path);
    for (uint64_t looked_at = 0; scan.start < HIGHEST && looked_at < WORKING_SET_LOOKED_AT_MAX;) {
        int found = ioctl(pagemap, SCAN_PAGES, &scan);
        if (found < 0 && (errno == ENOTTY || errno == EINVAL))
            return error_set(err, ERROR_UNSUPPORTED, "this kernel does not scan page tables");
        if (found < 0)
            return error_system(err, "cannot scan the pages of process %d", pid);
        for (int i = 0; i < found; i++) {
            if (each(context, pagemap, &regions[i], err) < 0)
                return -1;
            uint64_t page = regions[i].categories & IS_HUGE ? HUGE_PAGE : PAGE;
            looked_at += (regions[i].end - regions[i].start) / page;
        }
        scan.start = scan.walk_end;
    }
    return 0;
}

/* Which of the region's pages no other process maps. */
static int add_exclusive(void *set, int pagemap, const struct region *region, struct error *err)
{
    uint64_t entries[ENTRIES];
    for (uint64_t at = region->start; at < region->end;) {
        uint64_t count = (region->end - at) / PAGE;
        count = count < ENTRIES ? count : ENTRIES;
        ssize_t n = pread(pagemap, entries, count * sizeof *entries, (off_t)(at / PAGE * sizeof *entries));
        if (n != (ssize_t)(count * sizeof *entries))
            return error_system(err, "cannot read a pagemap");
        for (uint64_t i = 0; i < count; i++)
            if ((entries[i] & ENTRY_PRESENT) && (entries[i] & ENTRY_EXCLUSIVE))
                working_set_add(set, at + i * PAGE, PAGE);
        at += count * PAGE;
    }
    return 0;
}

int working_set_read(struct working_set *set, pid_t clone, struct error *err)
{
    /* A huge page that is still mapped as such was not written to. */
    *set = (struct working_set){0};
    return scan_pages(clone, false, add_exclusive, set, err);
}

/* What of [start, end) is in the set goes to `out`. `*at` is the first range that may matter, as both ascend. */
static void add_common(
    struct working_set *out, const struct working_set *set, uint32_t *at, uint64_t start, uint64_t end)
{
    while (*at < set->count && set->ranges[*at].start + set->ranges[*at].bytes <= start)
        ++*at;
    for (uint32_t i = *at; i < set->count && set->ranges[i].start < end; i++) {
        uint64_t range_start = set->ranges[i].start, range_end = range_start + set->ranges[i].bytes;
        uint64_t from = range_start > start ? range_start : start, to = range_end < end ? range_end : end;
        working_set_add(out, from, to - from);
    }
}

void working_set_intersect(struct working_set *set, const struct working_set *other)
{
    struct working_set common = {0};
    uint32_t at = 0;
    for (uint32_t i = 0; i < other->count; i++)
        add_common(
            &common, set, &at, other->ranges[i].start, other->ranges[i].start + other->ranges[i].bytes);
    working_set_free(set);
    *set = common;
}

static int keep_writable(struct working_set *set, pid_t template_pid, struct error *err)
{
    struct working_set kept = {0};
    char path[32], line[512];
    uint32_t at = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", template_pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL)
        return error_system(err, "cannot open %s", path);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        char read, write, execute, sharing;
        if (sscanf(line, "%lx-%lx %c%c%c%c", &start, &end, &read, &write, &execute, &sharing) == 6 &&
            read == 'r' && write == 'w' && sharing == 'p')
            add_common(&kept, set, &at, start, end);
    }
    (void)fclose(maps);
    working_set_free(set);
    *set = kept;
    return 0;
}

struct narrowing {
    const struct working_set *set;
    struct working_set kept;
    uint32_t at;
};

/* A huge page is pinned, and so copied, as a whole: worth it when most of it is written to. */
static void add_if_dense(struct narrowing *n, uint64_t start)
{
    struct working_set inside = {0};
    uint32_t at = n->at;
    add_common(&inside, n->set, &at, start, start + HUGE_PAGE);
    if (inside.pages >= HUGE_WORTH_PAGES)
        add_common(&n->kept, n->set, &n->at, start, start + HUGE_PAGE);
    working_set_free(&inside);
}

static int add_ownable(void *context, int pagemap, const struct region *region, struct error *err)
{
    struct narrowing *n = context;
    (void)pagemap;
    (void)err;
    if (!(region->categories & IS_HUGE))
        add_common(&n->kept, n->set, &n->at, region->start, region->end);
    else
        for (uint64_t start = region->start; start < region->end; start += HUGE_PAGE)
            add_if_dense(n, start);
    return 0;
}

int working_set_keep_ownable(struct working_set *set, pid_t template_pid, struct error *err)
{
    if (keep_writable(set, template_pid, err) < 0)
        return -1;
    struct narrowing ownable = {.set = set};
    int result = scan_pages(template_pid, true, add_ownable, &ownable, err);
    working_set_free(set);
    *set = ownable.kept;
    return result;
}
