/* Pages that the kernel itself uses where it does not wait for a pager: a thread that ends clears its number and lets go of
 * its robust locks, and /proc shows arguments and environment. They are in the template from the start. */
#include "freeze/pages.h"
#include "freeze/parts.h"

#include <linux/futex.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROBUST_MOST 2048       /* locks of one thread, as the kernel has it (ROBUST_LIST_LIMIT) */
#define THREAD_AREA_BYTES 1024 /* what C libraries keep at the thread pointer */

static void add(struct page_runs *runs, uint64_t start, uint64_t end)
{
    if (start == 0 || end <= start)
        return;
    runs->list = xrealloc(runs->list, (runs->count + 1) * sizeof *runs->list);
    runs->list[runs->count++] =
        (struct page_run){start & ~(PAGES_BYTES - 1), (end + PAGES_BYTES - 1) & ~(PAGES_BYTES - 1), false};
}

static int compare(const void *a, const void *b)
{
    const struct page_run *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_and_join(struct page_runs *runs)
{
    size_t count = 0;
    if (runs->count > 0)
        qsort(runs->list, runs->count, sizeof *runs->list, compare);
    for (size_t i = 0; i < runs->count; i++) {
        struct page_run *last = count > 0 ? &runs->list[count - 1] : NULL;
        if (last == NULL || runs->list[i].start > last->end)
            runs->list[count++] = runs->list[i];
        else if (runs->list[i].end > last->end)
            last->end = runs->list[i].end;
    }
    runs->count = count;
}

/* The locks that a thread holds: a list through the memory of the process, which may be broken. */
static void add_robust_locks(const struct freeze *f, uint64_t address, struct page_runs *runs)
{
    struct robust_list_head head;
    struct error ignored;
    if (address == 0 || tracee_read(&f->tracee, address, &head, sizeof head, &ignored) < 0)
        return;
    uint64_t entry = (uint64_t)head.list.next & ~1ull, pending = (uint64_t)head.list_op_pending & ~1ull;
    if (pending != 0)
        add(runs, pending + (uint64_t)head.futex_offset, pending + (uint64_t)head.futex_offset + sizeof(int));
    for (int i = 0; i < ROBUST_MOST && entry != address; i++) {
        add(runs, entry, entry + sizeof entry);
        add(runs, entry + (uint64_t)head.futex_offset, entry + (uint64_t)head.futex_offset + sizeof(int));
        if (tracee_read(&f->tracee, entry, &entry, sizeof entry, &ignored) < 0)
            return;
        entry &= ~1ull;
    }
}

static int add_thread(struct freeze *f, size_t index, struct page_runs *runs, struct error *err)
{
    const struct tracee_thread *thread = &f->tracee.threads[index];
    uint64_t clear_tid = 0, robust_list = 0, robust_bytes = 0;
    if (tracee_query(&f->tracee, index, &clear_tid, sizeof clear_tid, err, SYS_prctl, 1,
            (const uint64_t[4]){PR_GET_TID_ADDRESS}) < 0)
        return -1;
    if (syscall(SYS_get_robust_list, thread->tid, &robust_list, &robust_bytes) < 0)
        return error_system(err, "cannot read the robust list of thread %d", thread->inner_tid);
    add(runs, clear_tid, clear_tid + sizeof(int));
    add(runs, robust_list, robust_list + robust_bytes);
    add_robust_locks(f, robust_list, runs);
    if (thread->registers.fs_base != 0)
        add(runs, thread->registers.fs_base, thread->registers.fs_base + THREAD_AREA_BYTES);
    add(runs, thread->rseq.rseq_abi_pointer, thread->rseq.rseq_abi_pointer + thread->rseq.rseq_abi_size);
    return 0;
}

int freeze_find_kernel_pages(struct freeze *f, struct page_runs *runs, struct error *err)
{
    uint64_t stat[53];
    if (freeze_read_stat(f, stat, err) < 0)
        return -1;
    add(runs, stat[48], stat[49]); /* arguments */
    add(runs, stat[50], stat[51]); /* environment */
    for (size_t i = 0; i < f->tracee.thread_count; i++)
        if (add_thread(f, i, runs, err) < 0)
            return -1;
    sort_and_join(runs);
    return 0;
}
