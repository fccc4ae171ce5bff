#include "pager/layout.h"

#include <stdlib.h>

static bool fills(const struct plan_op *op)
{
    return op->kind == PLAN_READ_PAGES || op->kind == PLAN_LAZY_PAGES;
}

static int compare_address(const void *a, const void *b)
{
    uint64_t x = (*(const struct stretch *const *)a)->address,
             y = (*(const struct stretch *const *)b)->address;
    return x < y ? -1 : x > y;
}

static int compare_regions(const void *a, const void *b)
{
    const struct region *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void put_stretches(struct layout *l, const struct image *image, uint64_t bulk_address)
{
    const struct plan *plan = &image->processes[0].template_plan;
    uint64_t offset = 0;
    l->stretches = xcalloc(plan->count + 1, sizeof *l->stretches);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct plan_op *op = &plan->ops[i];
        if (!fills(op) || op->arg[1] == 0)
            continue;
        l->stretches[l->count++] =
            (struct stretch){op->arg[0], offset, op->arg[1], op->kind == PLAN_LAZY_PAGES};
        offset += op->arg[1];
    }
    if (image->bulk_bytes > 0)
        l->stretches[l->count++] = (struct stretch){bulk_address, offset, image->bulk_bytes, true};
    l->bytes = offset + image->bulk_bytes;
    l->pages = (l->bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE;
}

static void sort_lazy(struct layout *l)
{
    l->lazy = xcalloc(l->count + 1, sizeof *l->lazy);
    for (size_t i = 0; i < l->count; i++) {
        if (!l->stretches[i].lazy)
            continue;
        l->lazy[l->lazy_count++] = &l->stretches[i];
        l->lazy_pages += (l->stretches[i].bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE;
    }
    qsort(l->lazy, l->lazy_count, sizeof *l->lazy, compare_address);
}

/* The first lazy stretch that ends above `address`. */
static size_t find_lazy(const struct layout *l, uint64_t address)
{
    size_t low = 0, high = l->lazy_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (l->lazy[middle]->address + l->lazy[middle]->bytes <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void put_regions(struct layout *l, const struct image *image, uint64_t bulk_address)
{
    const struct image_process *process = &image->processes[0];
    l->regions = xcalloc(process->mapping_count + 1, sizeof *l->regions);
    for (uint32_t i = 0; i < process->mapping_count; i++) {
        const struct image_mapping *m = &process->mappings[i];
        size_t at = find_lazy(l, m->start);
        if (at < l->lazy_count && l->lazy[at]->address < m->end)
            l->regions[l->region_count++] = (struct region){m->start, m->end};
    }
    if (image->bulk_bytes > 0)
        l->regions[l->region_count++] = (struct region){
            bulk_address, bulk_address + (image->bulk_bytes + LAYOUT_PAGE - 1) / LAYOUT_PAGE * LAYOUT_PAGE};
    qsort(l->regions, l->region_count, sizeof *l->regions, compare_regions);
}

void layout_make(struct layout *l, const struct image *image, uint64_t bulk_address)
{
    *l = (struct layout){0};
    put_stretches(l, image, bulk_address);
    sort_lazy(l);
    put_regions(l, image, bulk_address);
}

void layout_free(struct layout *l)
{
    free(l->stretches);
    free(l->lazy);
    free(l->regions);
    *l = (struct layout){0};
}

size_t layout_find(const struct layout *l, uint64_t offset)
{
    size_t low = 0, high = l->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (l->stretches[middle].offset + l->stretches[middle].bytes <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool layout_page(const struct layout *l, uint64_t address, uint64_t *page)
{
    size_t at = find_lazy(l, address);
    if (at == l->lazy_count || l->lazy[at]->address > address)
        return false;
    *page = (l->lazy[at]->offset + (address - l->lazy[at]->address)) / LAYOUT_PAGE;
    return true;
}

bool layout_next(const struct layout *l, uint64_t *address, uint64_t end, uint64_t *page, uint64_t *count)
{
    size_t at = find_lazy(l, *address);
    if (*address >= end || at == l->lazy_count || l->lazy[at]->address >= end)
        return false;
    const struct stretch *stretch = l->lazy[at];
    if (*address < stretch->address)
        *address = stretch->address;
    uint64_t stop = stretch->address + stretch->bytes < end ? stretch->address + stretch->bytes : end;
    *page = (stretch->offset + (*address - stretch->address)) / LAYOUT_PAGE;
    *count = (stop - *address + LAYOUT_PAGE - 1) / LAYOUT_PAGE;
    return true;
}
