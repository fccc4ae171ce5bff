/* Where the template keeps the memory of all processes but the root: a range that no process uses. */
#include "freeze/family.h"

#define STASH_FIRST_ADDRESS 0x300000000000ull
#define STASH_STEP 0x1000000000ull
#define STASH_END 0x700000000000ull
#define PAGE 4096ull
#define HUGE_BYTES (2ull << 20)

static bool is_stashed(const struct image_mapping *m)
{
    return m->kind != IMAGE_SPECIAL && m->kind != IMAGE_SHARED;
}

/* Large ones lie as in their own place within 2 MiB: then whole page tables are moved, and huge pages stay. */
static uint64_t place_one(const struct image_mapping *m, uint64_t at)
{
    if (m->end - m->start < HUGE_BYTES)
        return at;
    return at + (m->start - at) % HUGE_BYTES;
}

/* Returns where it ends. */
static uint64_t place_all(struct image *image, uint64_t at)
{
    for (uint32_t p = 1; p < image->process_count; p++) {
        struct image_process *process = &image->processes[p];
        for (uint32_t i = 0; i < process->mapping_count; i++) {
            struct image_mapping *m = &process->mappings[i];
            if (!is_stashed(m))
                continue;
            m->stash = place_one(m, at);
            at = m->stash + (m->end - m->start) + PAGE;
        }
    }
    return (at + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
}

static bool is_free(const struct image *image, uint64_t start, uint64_t end)
{
    for (uint32_t p = 0; p < image->process_count; p++)
        for (uint32_t i = 0; i < image->processes[p].mapping_count; i++) {
            const struct image_mapping *m = &image->processes[p].mappings[i];
            if (m->start < end && start < m->end)
                return false;
        }
    return true;
}

int family_choose_stash(struct family *family, struct image *image, struct error *err)
{
    for (uint64_t start = STASH_FIRST_ADDRESS; start < STASH_END; start += STASH_STEP) {
        uint64_t end = place_all(image, start);
        if (end > STASH_END || !is_free(image, start, end))
            continue;
        image->stash_start = start;
        image->stash_end = end;
        return 0;
    }
    return tracee_refuse(&family->freezes[0].tracee, err,
        "the memory of all its processes leaves no room to keep them together");
}
