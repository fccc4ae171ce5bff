#include "thaw/family.h"

#include "thaw/arena.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define KEPT_MAX (ARENA_SPECIAL_MAX + 3)
#define FIXED_OPS_MAX (4 * KEPT_MAX + 3 * ARENA_SPECIAL_MAX + 8)

struct range {
    uint64_t start, end;
};

uint64_t family_ops_max(const struct image_process *process)
{
    return 2ull * process->mapping_count + FIXED_OPS_MAX;
}

void family_plan_move(struct plan *plan, uint64_t from, uint64_t bytes, uint64_t to)
{
    plan_expect_value(plan_call(plan, SYS_mremap, plan_literal(from), plan_literal(bytes),
                          plan_literal(bytes), plan_literal(MREMAP_MAYMOVE | MREMAP_FIXED), plan_literal(to)),
        (int64_t)to);
}

void family_plan_vdso(struct plan *plan, const struct arena_special_list *special, uint64_t parking,
    const struct image_process *process)
{
    uint64_t vvar_to = process->vvar_start;
    for (size_t i = 0; i < special->count; i++) {
        const struct arena_special *s = &special->list[i];
        family_plan_move(plan, parking, s->bytes, s->is_vdso ? process->vdso_start : vvar_to);
        vvar_to += s->is_vdso ? 0 : s->bytes;
        parking += s->bytes;
    }
}

/* Where the root has the vDSO and its data, from which every child inherits them. */
static void park_vdso(struct plan *plan, const struct image *image, const struct family_place *place)
{
    uint64_t parking = place->parking, vvar_from = image->processes[0].vvar_start;
    for (size_t i = 0; i < place->special->count; i++) {
        const struct arena_special *s = &place->special->list[i];
        family_plan_move(plan, s->is_vdso ? image->processes[0].vdso_start : vvar_from, s->bytes, parking);
        vvar_from += s->is_vdso ? 0 : s->bytes;
        parking += s->bytes;
    }
}

static bool descends(const struct image *image, uint32_t index, uint32_t from)
{
    while (index > from)
        index = image->processes[index].parent;
    return index == from;
}

static void widen(struct range *range, const struct image_process *process)
{
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        if (m->stash == 0)
            continue;
        if (range->end == 0)
            range->start = m->stash;
        range->end = m->stash + (m->end - m->start);
    }
}

/* The stash of a process, and (`family`) of all that descend from it: they lie together. */
static struct range stash_of(const struct image *image, uint32_t index, bool family)
{
    struct range range = {0};
    widen(&range, &image->processes[index]);
    for (uint32_t i = index + 1; family && i < image->process_count && descends(image, i, index); i++)
        widen(&range, &image->processes[i]);
    return range;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* One call for every gap between the ranges that are kept. */
static void call_between(
    struct plan *plan, long number, int advice, struct range kept[KEPT_MAX], size_t kept_count)
{
    uint64_t from = ARENA_LOWEST_ADDRESS;
    kept[kept_count++] = (struct range){ARENA_USER_END, ARENA_USER_END};
    qsort(kept, kept_count, sizeof *kept, compare_ranges);
    for (size_t i = 0; i < kept_count; i++) {
        if (kept[i].start > from) {
            struct plan_op *op = plan_call(plan, number, plan_literal(from),
                plan_literal(kept[i].start - from), plan_literal((uint64_t)advice));
            if (number == SYS_madvise)
                op->expect =
                    PLAN_EXPECT_ANYTHING; /* it says that there are holes, and is done all the same */
        }
        from = kept[i].end > from ? kept[i].end : from;
    }
}

static void advise(struct plan *plan, struct range range, int advice)
{
    if (range.end > range.start)
        plan_call(plan, SYS_madvise, plan_literal(range.start), plan_literal(range.end - range.start),
            plan_literal((uint64_t)advice))
            ->expect = PLAN_EXPECT_ANYTHING;
}

/* The memory of a process that is about to fork: the root's is at its places, all around what no child may
 * miss; another's is its stash. */
static void advise_own(struct plan *plan, const struct image *image, uint32_t index,
    const struct family_place *place, int advice)
{
    if (index > 0) {
        advise(plan, stash_of(image, index, false), advice);
        return;
    }
    const struct image_process *root = &image->processes[0];
    struct range kept[KEPT_MAX] = {{place->arena_start, place->arena_end},
        {image->stash_start, image->stash_end}, {root->vdso_start, root->vdso_start + root->vdso_bytes},
        {root->vvar_start, root->vvar_start + root->vvar_bytes}};
    call_between(plan, SYS_madvise, advice, kept, 4);
}

static uint32_t next_sibling(const struct image *image, uint32_t index)
{
    uint32_t parent = image->processes[index].parent;
    for (uint32_t i = index + 1; i < image->process_count; i++)
        if (image->processes[i].parent == parent)
            return i;
    return 0;
}

static bool is_first_child(const struct image *image, uint32_t index)
{
    return image->processes[index].parent == index - 1;
}

/* In the parent, around the fork of `index`. */
static void plan_fork(
    struct family_plans *out, const struct image *image, uint32_t index, const struct family_place *place)
{
    uint32_t parent = image->processes[index].parent, next = next_sibling(image, index);
    struct range own = stash_of(image, index, true), all = stash_of(image, parent, true);
    if (parent == 0)
        all = (struct range){image->stash_start, image->stash_end};
    if (is_first_child(image, index)) {
        advise_own(&out->hide, image, parent, place, MADV_DONTFORK);
        if (next != 0 && own.end > 0)
            advise(&out->hide, (struct range){own.end, all.end}, MADV_DONTFORK);
        else if (next != 0)
            advise(&out->hide, all, MADV_DONTFORK);
    } else {
        advise(&out->hide, own, MADV_DOFORK);
    }
    if (own.end > own.start)
        plan_call(&out->show, SYS_munmap, plan_literal(own.start), plan_literal(own.end - own.start));
    if (next == 0)
        advise_own(&out->show, image, parent, place, MADV_DOFORK);
}

static void plan_become(
    struct plan *plan, const struct image *image, uint32_t index, const struct family_place *place)
{
    const struct image_process *process = &image->processes[index];
    struct range kept[KEPT_MAX] = {{place->arena_start, place->arena_end}, stash_of(image, index, false)};
    park_vdso(plan, image, place);
    call_between(plan, SYS_munmap, 0, kept, 2);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        if (m->stash != 0)
            family_plan_move(plan, m->stash, m->end - m->start, m->start);
    }
    family_plan_vdso(plan, place->special, place->parking, process);
}

void family_plan(
    struct family_plans *out, const struct image *image, uint32_t index, const struct family_place *place)
{
    const struct image_process *process = &image->processes[index];
    *out = (struct family_plans){0};
    if (index == 0)
        return;
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        if (m->stash != 0)
            family_plan_move(&out->stash, m->start, m->end - m->start, m->stash);
    }
    plan_fork(out, image, index, place);
    if (process->kind == IMAGE_LIVE)
        plan_become(&out->become, image, index, place);
}
