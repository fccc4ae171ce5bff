/* Memory protection keys (pkeys(7)): which are allocated, and on which memory they are. Both belong to the address
 * space; what a thread may do with a key is in its registers. In each clone's own plan: while the template is built,
 * and while relatives are forked, nothing may be in the way. The kernel takes a key for execute-only memory by itself. */
#include "freeze/parts.h"

#include <sys/mman.h>
#include <sys/syscall.h>

#define PROTECTION_KEYS 16
#define PAGE_BYTES 4096

/* A key that is not allocated cannot be put on a page. The page is the scratch page, which ends as it was. */
static int find_allocated(
    struct freeze *f, bool allocated[PROTECTION_KEYS], uint64_t *highest, struct error *err)
{
    long result;
    uint64_t scratch;
    *highest = 0;
    if (tracee_get_scratch(&f->tracee, &scratch, err) < 0)
        return -1;
    for (uint64_t key = 1; key < PROTECTION_KEYS; key++) {
        if (tracee_call(&f->tracee, &result, err, SYS_pkey_mprotect, scratch, PAGE_BYTES,
                PROT_READ | PROT_WRITE, key) < 0)
            return -1;
        allocated[key] = result == 0;
        if (allocated[key])
            *highest = key;
    }
    if (*highest > 0 && tracee_call(&f->tracee, &result, err, SYS_pkey_mprotect, scratch, PAGE_BYTES,
                            PROT_READ | PROT_WRITE, 0) < 0)
        return -1;
    return 0;
}

int freeze_protection_keys(struct freeze *f, struct error *err)
{
    bool allocated[PROTECTION_KEYS] = {false};
    uint64_t highest;
    struct plan *plan = &f->on_memory;
    if (find_allocated(f, allocated, &highest, err) < 0)
        return -1;
    /* The kernel hands out the lowest that is free. */
    for (uint64_t key = 1; key <= highest; key++)
        plan_expect_value(plan_call(plan, SYS_pkey_alloc, plan_literal(0), plan_literal(0)), (int64_t)key);
    for (uint64_t key = 1; key <= highest; key++)
        if (!allocated[key])
            plan_call(plan, SYS_pkey_free, plan_literal(key));
    for (size_t i = 0; highest > 0 && i < f->mappings.count; i++) {
        const struct mapping *m = &f->mappings.list[i];
        if (m->protection_key != 0 && m->protection != PROT_EXEC)
            plan_call(plan, SYS_pkey_mprotect, plan_literal(m->start), plan_literal(m->end - m->start),
                plan_literal((uint64_t)m->protection), plan_literal((uint64_t)m->protection_key));
    }
    return 0;
}
