#include "thaw/huge_pages.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define HUGE_BYTES (2ull << 20)
#define ADVICE_BYTES_MAX (4 * HUGE_BYTES) /* what one call may take, as a request may come meanwhile */
#define FILLED_ENOUGH_BYTES (HUGE_BYTES / 2)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* The runs of the page stream, in address order, as the template plan reads them. */
struct runs {
    const struct plan *plan;
    uint32_t at;
};

static const struct plan_op *next_run(struct runs *runs)
{
    while (runs->at < runs->plan->count && runs->plan->ops[runs->at].kind != PLAN_READ_PAGES &&
           runs->plan->ops[runs->at].kind != PLAN_LAZY_PAGES)
        runs->at++;
    return runs->at < runs->plan->count ? &runs->plan->ops[runs->at] : NULL;
}

/* Bytes of the stream that lie in [start, end). Windows must be asked for in ascending order. */
static uint64_t filled_bytes(struct runs *runs, uint64_t start, uint64_t end)
{
    uint64_t bytes = 0;
    for (const struct plan_op *run; (run = next_run(runs)) != NULL; runs->at++) {
        uint64_t run_start = run->arg[0], run_end = run->arg[0] + run->arg[1];
        if (run_start >= end)
            break;
        uint64_t from = run_start > start ? run_start : start, to = run_end < end ? run_end : end;
        if (to > from)
            bytes += to - from;
        if (run_end > end)
            break; /* it reaches into the next window */
    }
    return bytes;
}

/* A stash has the same place inside a huge page as what it holds. */
static void advise(struct plan *plan, const struct image_mapping *m, uint64_t start, uint64_t end)
{
    uint64_t moved = m->stash == 0 ? 0 : m->stash - m->start;
    start += moved;
    end += moved;
    struct plan_op *op = plan_call(
        plan, SYS_madvise, plan_literal(start), plan_literal(end - start), plan_literal(MADV_COLLAPSE));
    op->expect = PLAN_EXPECT_ANYTHING;
}

static void plan_process(struct plan *plan, const struct image_process *process)
{
    struct runs runs = {&process->template_plan, 0};
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        if (m->kind != IMAGE_ANONYMOUS || m->page_count * 4096 < FILLED_ENOUGH_BYTES)
            continue;
        uint64_t start = (m->start + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1), filled_from = 0;
        for (uint64_t at = start; at + HUGE_BYTES <= m->end; at += HUGE_BYTES) {
            bool filled = filled_bytes(&runs, at, at + HUGE_BYTES) >= FILLED_ENOUGH_BYTES;
            if (filled && filled_from == 0)
                filled_from = at;
            bool enough = filled_from != 0 && (!filled || at - filled_from >= ADVICE_BYTES_MAX);
            if (enough)
                advise(plan, m, filled_from, at);
            if (!filled || enough)
                filled_from = filled ? at : 0;
            if (filled && at + 2 * HUGE_BYTES > m->end)
                advise(plan, m, filled_from, at + HUGE_BYTES);
        }
    }
}

void huge_pages_plan(struct plan *plan, const struct image *image)
{
    for (uint32_t i = 0; i < image->process_count; i++)
        plan_process(plan, &image->processes[i]);
}
