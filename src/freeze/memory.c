/* Private memory. The template plan maps every mapping, fills it from the page stream, then sets its final
 * protection and advice. What goes into the stream: pages that are the process's own, which are the anonymous
 * ones (also of private file mappings, where it has written), but for those that hold only zeros. */
#include "freeze/pages.h"
#include "freeze/parts.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE PAGES_BYTES
#define BATCH_BYTES (1ul << 20)
#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE 0x08
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

struct scanner {
    struct freeze *f;
    struct page_scanner pages;
    uint8_t *batch;          /* BATCH_BYTES */
    enum plan_op_kind fill;  /* how the mapping's pages come into a template */
    struct page_runs kernel; /* pages that come at once in any case */
};

static bool all_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static int put_piece(struct scanner *s, enum plan_op_kind fill, uint64_t address, const uint8_t *bytes,
    size_t len, struct error *err)
{
    struct freeze *f = s->f;
    plan_do(&f->process->template_plan, fill, plan_literal(address), plan_literal(len));
    f->image->page_bytes += len;
    f->process->mappings[f->process->mapping_count - 1].page_count += len / PAGE;
    uint64_t space = (uint64_t)(f->process - f->image->processes);
    return f->request->put_pages(f->request->put_context, space, address, bytes, len, err);
}

/* In pieces: such as may come later, and such as may not. */
static int put_run(struct scanner *s, uint64_t address, const uint8_t *bytes, size_t len, struct error *err)
{
    uint64_t at = address, end = address + len;
    for (size_t i = 0; s->fill == PLAN_LAZY_PAGES && i < s->kernel.count && at < end; i++) {
        const struct page_run *run = &s->kernel.list[i];
        uint64_t from = run->start > at ? run->start : at, to = run->end < end ? run->end : end;
        if (from >= to)
            continue;
        if ((from > at && put_piece(s, s->fill, at, bytes + (at - address), from - at, err) < 0) ||
            put_piece(s, PLAN_READ_PAGES, from, bytes + (from - address), to - from, err) < 0)
            return -1;
        at = to;
    }
    return at < end ? put_piece(s, s->fill, at, bytes + (at - address), end - at, err) : 0;
}

/* Pages of zeros need not be stored where untouched memory reads as zeros anyway. */
static int put_nonzero_runs(
    struct scanner *s, uint64_t address, size_t len, bool zeros_are_default, struct error *err)
{
    size_t from = 0;
    for (size_t at = 0; at < len; at += PAGE) {
        if (!zeros_are_default || !all_zero(s->batch + at))
            continue;
        if (at > from && put_run(s, address + from, s->batch + from, at - from, err) < 0)
            return -1;
        from = at + PAGE;
    }
    return len > from ? put_run(s, address + from, s->batch + from, len - from, err) : 0;
}

static int store_run(struct scanner *s, struct page_run run, bool zeros_are_default, struct error *err)
{
    for (uint64_t at = run.start; at < run.end; at += BATCH_BYTES) {
        size_t len = run.end - at < BATCH_BYTES ? run.end - at : BATCH_BYTES;
        if (tracee_read(&s->f->tracee, at, s->batch, len, err) < 0 ||
            put_nonzero_runs(s, at, len, zeros_are_default, err) < 0)
            return -1;
    }
    return 0;
}

static void plan_guard(struct plan *plan, struct page_run run)
{
    plan_call(plan, SYS_madvise, plan_literal(run.start), plan_literal(run.end - run.start),
        plan_literal(MADV_GUARD_INSTALL));
}

static int store_own_pages(struct scanner *s, const struct mapping *m, struct error *err)
{
    struct page_run runs[PAGES_RUNS_MAX];
    for (uint64_t at = m->start; at < m->end;) {
        size_t count = 0;
        if (pages_scan(&s->pages, at, m->end, runs, &count, &at, err) < 0)
            return -1;
        for (size_t i = 0; i < count; i++) {
            if (runs[i].guard)
                plan_guard(&s->f->process->template_plan, runs[i]);
            else if (store_run(s, runs[i], m->path[0] != '/', err) < 0)
                return -1;
        }
    }
    return 0;
}

int freeze_guards(struct freeze *f, const struct mapping *m, struct plan *plan, struct error *err)
{
    struct page_run runs[PAGES_RUNS_MAX];
    struct page_scanner scanner;
    if (pages_open(&scanner, &f->tracee, err) < 0)
        return -1;
    int result = 0;
    for (uint64_t at = m->start; at < m->end && result == 0;) {
        size_t count = 0;
        result = pages_scan(&scanner, at, m->end, runs, &count, &at, err);
        for (size_t i = 0; i < count; i++)
            if (runs[i].guard)
                plan_guard(plan, runs[i]);
    }
    pages_close(&scanner);
    return result;
}

/* How much of a private mapping its file fills; what lies behind raises SIGBUS. */
static int read_filled(const struct freeze *f, const struct mapping *m, uint64_t *filled, struct error *err)
{
    char name[64];
    struct stat st;
    snprintf(name, sizeof name, "map_files/%lx-%lx", m->start, m->end);
    if (fstatat(f->tracee.proc_fd, name, &st, 0) < 0)
        return error_system(err, "cannot look at the file of the mapping at %#lx (%s)", m->start, m->path);
    uint64_t size = (uint64_t)st.st_size > m->offset ? (uint64_t)st.st_size - m->offset : 0;
    *filled = (size + PAGE - 1) / PAGE * PAGE;
    if (*filled > m->end - m->start)
        *filled = m->end - m->start;
    return 0;
}

/* A private mapping of a file that will not be there (deleted, memfd, /tmp): it becomes anonymous memory with
 * the file's bytes, and behind these a mapping of an empty file. Guard pages cannot be read. */
static int store_all_pages(struct scanner *s, const struct mapping *m, struct error *err)
{
    uint64_t filled;
    struct plan *plan = &s->f->process->template_plan;
    if (read_filled(s->f, m, &filled, err) < 0)
        return -1;
    for (uint64_t at = m->start; at < m->start + filled; at += PAGE) {
        struct error unreadable;
        if (tracee_read(&s->f->tracee, at, s->batch, PAGE, &unreadable) == 0 &&
            put_nonzero_runs(s, at, PAGE, true, err) < 0)
            return -1;
    }
    if (m->start + filled < m->end) {
        plan_save(plan_call(plan, SYS_memfd_create, plan_data(image_put_string(s->f->image, "empty")),
                      plan_literal(MFD_CLOEXEC)),
            1);
        plan_expect_value(plan_call(plan, SYS_mmap, plan_literal(m->start + filled),
                              plan_literal(m->end - m->start - filled), plan_literal((uint64_t)m->protection),
                              plan_literal(MAP_PRIVATE | MAP_FIXED), plan_register(1), plan_literal(0)),
            (int64_t)(m->start + filled));
        plan_call(plan, SYS_close, plan_register(1));
    }
    return freeze_guards(s->f, m, plan, err);
}

static bool becomes_anonymous(const struct mapping *m)
{
    return !m->shared && m->path[0] == '/' &&
           (m->deleted || strncmp(m->path, "/memfd:", 7) == 0 || strncmp(m->path, "/tmp/", 5) == 0);
}

static bool is_special(const struct mapping *m)
{
    return strncmp(m->path, "[vvar", 5) == 0 || strcmp(m->path, "[vdso]") == 0 ||
           strcmp(m->path, "[vsyscall]") == 0;
}

static int refuse_mapping(const struct freeze *f, const struct mapping *m, struct error *err, const char *why)
{
    return tracee_refuse(&f->tracee, err, "mapping %#lx-%#lx%s%s %s", m->start, m->end,
        m->path[0] ? " of " : "", m->path, why);
}

static int check_mapping(const struct freeze *f, const struct mapping *m, struct error *err)
{
    if (m->huge_tlb)
        return refuse_mapping(f, m, err, "is of hugetlbfs, which cannot be frozen");
    if (m->io)
        return refuse_mapping(f, m, err, "is of a device, which cannot be frozen");
    if (m->userfault)
        return refuse_mapping(f, m, err, "is served by userfaultfd, which cannot be frozen");
    if (m->shadow_stack)
        return refuse_mapping(f, m, err, "is a shadow stack, which cannot be frozen yet");
    if (m->protection_key != 0 && m->protection != PROT_EXEC && (m->sealed || m->shared))
        return refuse_mapping(
            f, m, err, "is sealed or shared and has a memory protection key, which cannot be frozen yet");
    if (m->shared && !freeze_handles_shared(f, m) && m->path[0] == '/' && m->protection & PROT_WRITE)
        return refuse_mapping(f, m, err,
            f->request->host_tmp && strncmp(m->path, "/tmp/", 5) == 0
                ? "is a writable shared mapping of a file that clones would share: a private /tmp "
                  "(--private-tmp) "
                  "becomes part of the snapshot"
                : "is a writable shared mapping of a file that clones would share");
    return 0;
}

/* Note the file as it is now, as the process sees it through its own root. */
static int note_file(struct freeze *f, const struct mapping *m, struct error *err)
{
    CLEANUP_FREE char *path = xasprintf("root%s", m->path);
    struct stat about;
    if (fstatat(f->tracee.proc_fd, path, &about, 0) < 0 || about.st_ino != m->inode)
        return refuse_mapping(f, m, err, "is of a file that is no longer at its place");
    image_note_file(f->image, m->path, (uint64_t)about.st_size,
        about.st_mtim.tv_sec * 1000000000l + about.st_mtim.tv_nsec);
    return 0;
}

static int mapping_flags(const struct mapping *m)
{
    return (m->shared         ? MAP_SHARED
               : m->droppable ? MAP_DROPPABLE
                              : MAP_PRIVATE) |
           MAP_FIXED_NOREPLACE | (m->grows_down ? MAP_GROWSDOWN : 0) | (m->no_reserve ? MAP_NORESERVE : 0);
}

/* It is writable until its pages are in. What never was writable has none, and is not accounted by the kernel, which
 * would refuse to promise the hundreds of gigabytes that .NET reserves without access. */
static void plan_anonymous(struct plan *plan, const struct mapping *m)
{
    bool has_none = m->path[0] != '/' && !m->accounted && !m->no_reserve;
    int protection = m->protection | (has_none ? 0 : PROT_WRITE);
    plan_expect_value(
        plan_call(plan, SYS_mmap, plan_literal(m->start), plan_literal(m->end - m->start),
            plan_literal((uint64_t)protection), plan_literal((uint64_t)(mapping_flags(m) | MAP_ANONYMOUS)),
            plan_literal((uint64_t)-1)),
        (int64_t)m->start);
}

/* Neighbouring mappings are mostly of one file (a library's segments): it is opened once for all of them. */
static void plan_file(struct freeze *f, const struct mapping *m, const char **open_path)
{
    struct plan *plan = &f->process->template_plan;
    if (*open_path == NULL || strcmp(*open_path, m->path) != 0) {
        if (*open_path != NULL)
            plan_call(plan, SYS_close, plan_register(0));
        plan_save(plan_call(plan, SYS_openat, plan_literal((uint64_t)AT_FDCWD),
                      plan_data(image_put_string(f->image, m->path)), plan_literal(O_RDONLY)),
            0);
        *open_path = m->path;
    }
    int protection = m->shared ? m->protection : m->protection | PROT_WRITE;
    plan_expect_value(plan_call(plan, SYS_mmap, plan_literal(m->start), plan_literal(m->end - m->start),
                          plan_literal((uint64_t)protection), plan_literal((uint64_t)mapping_flags(m)),
                          plan_register(0), plan_literal(m->offset)),
        (int64_t)m->start);
}

static void plan_advice(struct plan *plan, const struct mapping *m, int advice)
{
    plan_call(plan, SYS_madvise, plan_literal(m->start), plan_literal(m->end - m->start),
        plan_literal((uint64_t)advice));
}

/* The name that prctl(PR_SET_VMA) gave it: "[anon:NAME]". */
static void plan_name(struct freeze *f, struct plan *plan, const struct mapping *m)
{
    CLEANUP_FREE char *name = xstrdup(m->path + strlen("[anon:"));
    name[strlen(name) - 1] = '\0';
    plan_call(plan, SYS_prctl, plan_literal(PR_SET_VMA), plan_literal(PR_SET_VMA_ANON_NAME),
        plan_literal(m->start), plan_literal(m->end - m->start), plan_data(image_put_string(f->image, name)));
}

/* After the pages are in: what the mapping finally is. */
static void plan_final_state(struct freeze *f, struct plan *plan, const struct mapping *m)
{
    if (!(m->protection & PROT_WRITE) && !m->shared)
        plan_call(plan, SYS_mprotect, plan_literal(m->start), plan_literal(m->end - m->start),
            plan_literal((uint64_t)m->protection));
    if (m->wipe_on_fork)
        plan_advice(plan, m, MADV_WIPEONFORK);
    if (m->huge_page)
        plan_advice(plan, m, MADV_HUGEPAGE);
    if (m->no_huge_page)
        plan_advice(plan, m, MADV_NOHUGEPAGE);
    if (m->dont_dump && !m->droppable)
        plan_advice(plan, m, MADV_DONTDUMP);
    if (m->mergeable)
        plan_advice(plan, m, MADV_MERGEABLE);
    if (m->sequential)
        plan_advice(plan, m, MADV_SEQUENTIAL);
    if (m->random)
        plan_advice(plan, m, MADV_RANDOM);
    if (strncmp(m->path, "[anon:", 6) == 0)
        plan_name(f, plan, m);
    /* A fork does not keep a lock, and must first bring the memory that no later fork shall: both are for the
     * clone to make. */
    if (m->dont_fork)
        plan_advice(&f->on_memory, m, MADV_DONTFORK);
    if (m->locked)
        plan_call(&f->on_memory, SYS_mlock2, plan_literal(m->start), plan_literal(m->end - m->start),
            plan_literal(m->lock_on_fault ? MLOCK_ONFAULT : 0));
    if (m->sealed) /* in a tree it is moved before */
        plan_call(f->in_tree ? &f->on_memory : plan, SYS_mseal, plan_literal(m->start),
            plan_literal(m->end - m->start), plan_literal(0));
}

static void note_mapping(struct freeze *f, const struct mapping *m)
{
    struct image_process *process = f->process;
    enum image_mapping_kind kind = is_special(m)                              ? IMAGE_SPECIAL
                                   : m->shared && freeze_handles_shared(f, m) ? IMAGE_SHARED
                                   : m->path[0] == '/'                        ? IMAGE_FILE
                                                                              : IMAGE_ANONYMOUS;
    process->mappings = xrealloc(process->mappings, (process->mapping_count + 1) * sizeof *process->mappings);
    process->mappings[process->mapping_count++] = (struct image_mapping){
        .start = m->start,
        .end = m->end,
        .offset = m->offset,
        .protection = (uint32_t)m->protection,
        .kind = kind,
        .name = xstrdup(m->path),
    };
}

static void note_special(struct freeze *f, const struct mapping *m)
{
    struct image_process *process = f->process;
    if (strcmp(m->path, "[vdso]") == 0) {
        process->vdso_start = m->start;
        process->vdso_bytes = m->end - m->start;
    } else if (strncmp(m->path, "[vvar", 5) == 0) {
        if (process->vvar_bytes == 0)
            process->vvar_start = m->start;
        process->vvar_bytes += m->end - m->start;
    }
}

/* Pages of plain anonymous memory may come into a template as they are touched. The rest is there from the start: what
 * userfaultfd does not serve (files, droppable memory), what the kernel treats in its own way at a fork or when it is
 * locked, and stacks that grow, which are small and needed at once. */
static bool may_come_later(const struct mapping *m)
{
    return m->path[0] != '/' && !m->shared && !m->droppable && !m->wipe_on_fork && !m->dont_fork &&
           !m->grows_down && !m->mergeable && !m->sealed && m->protection_key == 0 &&
           (!m->locked || m->lock_on_fault);
}

static int freeze_mapping(
    struct scanner *s, const struct mapping *m, const char **open_path, struct error *err)
{
    struct freeze *f = s->f;
    s->fill = may_come_later(m) ? PLAN_LAZY_PAGES : PLAN_READ_PAGES;
    note_mapping(f, m);
    if (is_special(m)) {
        note_special(f, m);
        return 0;
    }
    if (check_mapping(f, m, err) < 0)
        return -1;
    if (m->shared && freeze_handles_shared(f, m))
        return 0;
    if (becomes_anonymous(m)) {
        plan_anonymous(&f->process->template_plan, m);
        return store_all_pages(s, m, err);
    }
    if (m->path[0] == '/') {
        if (note_file(f, m, err) < 0)
            return -1;
        plan_file(f, m, open_path);
    } else {
        plan_anonymous(&f->process->template_plan, m);
    }
    return m->shared ? 0 : store_own_pages(s, m, err);
}

static int freeze_all_mappings(struct scanner *s, struct error *err)
{
    struct freeze *f = s->f;
    const char *open_path = NULL;
    for (size_t i = 0; i < f->mappings.count; i++)
        if (freeze_mapping(s, &f->mappings.list[i], &open_path, err) < 0)
            return -1;
    if (open_path != NULL)
        plan_call(&f->process->template_plan, SYS_close, plan_register(0));
    for (size_t i = 0; i < f->mappings.count; i++) {
        const struct mapping *m = &f->mappings.list[i];
        if (!is_special(m) && !(m->shared && freeze_handles_shared(f, m)))
            plan_final_state(f, &f->process->template_plan, m);
    }
    return 0;
}

int freeze_memory(struct freeze *f, struct error *err)
{
    struct scanner scanner = {.f = f};
    if (pages_open(&scanner.pages, &f->tracee, err) < 0)
        return -1;
    scanner.batch = xcalloc(1, BATCH_BYTES);
    int result = freeze_find_kernel_pages(f, &scanner.kernel, err);
    if (result == 0)
        result = freeze_all_mappings(&scanner, err);
    free(scanner.kernel.list);
    free(scanner.batch);
    pages_close(&scanner.pages);
    return result < 0 ? -1 : freeze_protection_keys(f, err);
}
