/* What holds for memory that is yet to be mapped, and policies for NUMA. */
#include "freeze/pages.h"
#include "freeze/parts.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define NODES_MAX 64 /* policies that name a higher node are refused */

static int read_locked_kib(const struct freeze *f, unsigned long *kib, struct error *err)
{
    CLEANUP_BUFFER struct buffer status = {0};
    if (tracee_proc_file(&f->tracee, "status", &status, err) < 0)
        return -1;
    buffer_append_u8(&status, 0);
    const char *at = strstr((const char *)status.data, "\nVmLck:");
    *kib = at == NULL ? 0 : strtoul(at + strlen("\nVmLck:"), NULL, 10);
    return 0;
}

/* mlockall(MCL_FUTURE) cannot be asked for: a fresh mapping shows it, and (with MCL_ONFAULT) that nothing is on it yet. A
 * fork does not keep it; each clone asks for it again when all its own memory is mapped. */
static int freeze_future_locks(struct freeze *f, struct error *err)
{
    long address, result;
    unsigned long before, after;
    if (read_locked_kib(f, &before, err) < 0 ||
        tracee_call(&f->tracee, &address, err, SYS_mmap, 0, PAGES_BYTES, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0) < 0 ||
        read_locked_kib(f, &after, err) < 0)
        return -1;
    if (address < 0 && address > -4096)
        return tracee_refuse(
            &f->tracee, err, "it has no room for one more page: %s", strerror((int)-address));
    if (after != before) {
        struct page_run runs[PAGES_RUNS_MAX];
        size_t count = 0;
        uint64_t next;
        struct page_scanner scanner;
        if (pages_open(&scanner, &f->tracee, err) < 0)
            return -1;
        int scanned = pages_scan(
            &scanner, (uint64_t)address, (uint64_t)address + PAGES_BYTES, runs, &count, &next, err);
        pages_close(&scanner);
        if (scanned < 0)
            return -1;
        plan_call(&f->process->release_plan, SYS_mlockall,
            plan_literal((uint64_t)(MCL_FUTURE | (count == 0 ? MCL_ONFAULT : 0))));
    }
    return tracee_call(&f->tracee, &result, err, SYS_munmap, (uint64_t)address, PAGES_BYTES);
}

/* Policies by the words of /proc/PID/numa_maps (the kernel's mpol_to_str). Those with flags, weights or several preferred
 * nodes are refused. */
static const struct policy {
    const char *word;
    uint64_t mode;
    bool of_nodes;
} policies[] = {
    {"local", MPOL_LOCAL, false},
    {"prefer", MPOL_PREFERRED, true},
    {"bind", MPOL_BIND, true},
    {"interleave", MPOL_INTERLEAVE, true},
};

/* "0-1,3" to a mask of the first 64 nodes; false when it says anything else. */
static bool parse_nodes(const char *text, uint64_t *mask)
{
    for (*mask = 0;; text++) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (end == text)
            return false;
        if (*end == '-') {
            text = end + 1;
            last = strtoul(text, &end, 10);
            if (end == text)
                return false;
        }
        if (last >= NODES_MAX || first > last)
            return false;
        for (unsigned long node = first; node <= last; node++)
            *mask |= 1ul << node;
        if (*end != ',')
            return *end == '\0';
        text = end;
    }
}

/* Allocators of numerical libraries (OpenBLAS among them) ask for their own node's memory, on any machine. */
static bool plan_memory_policy(struct freeze *f, const struct mapping *m, const char *text)
{
    size_t len = strcspn(text, ":");
    for (size_t i = 0; i < countof(policies); i++) {
        uint64_t nodes = 0;
        if (strlen(policies[i].word) != len || strncmp(text, policies[i].word, len) != 0)
            continue;
        if (policies[i].of_nodes != (text[len] == ':') ||
            (policies[i].of_nodes && !parse_nodes(text + len + 1, &nodes)))
            return false;
        /* The kernel takes one bit less than it is told. */
        plan_call(&f->process->template_plan, SYS_mbind, plan_literal(m->start),
            plan_literal(m->end - m->start), plan_literal(policies[i].mode),
            nodes ? plan_data(image_put_aligned(f->image, &nodes, sizeof nodes, sizeof nodes))
                  : plan_literal(0),
            plan_literal(nodes ? NODES_MAX + 1 : 0), plan_literal(0));
        return true;
    }
    return false;
}

static const struct mapping *mapping_at(const struct freeze *f, uint64_t start)
{
    for (size_t i = 0; i < f->mappings.count; i++)
        if (f->mappings.list[i].start == start)
            return &f->mappings.list[i];
    return NULL;
}

/* "address policy ..." for each mapping. Shared memory is made in each clone, so its policies are refused. */
static int freeze_memory_policies(struct freeze *f, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    char *rest = NULL;
    if (tracee_proc_file(&f->tracee, "numa_maps", &text, err) < 0)
        return err->errno_value == ENOENT ? 0 : -1; /* a kernel without NUMA */
    buffer_append_u8(&text, 0);
    for (char *line = strtok_r((char *)text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        unsigned long start;
        char policy[64];
        if (sscanf(line, "%lx %63s", &start, policy) != 2 || strcmp(policy, "default") == 0)
            continue;
        const struct mapping *m = mapping_at(f, start);
        if (m == NULL || m->shared || !plan_memory_policy(f, m, policy))
            return tracee_refuse(&f->tracee, err,
                "mapping %#lx has a NUMA memory policy (%s), which cannot be frozen yet", start, policy);
    }
    return 0;
}

int freeze_memory_settings(struct freeze *f, struct error *err)
{
    if (freeze_memory_policies(f, err) < 0)
        return -1;
    return freeze_future_locks(f, err);
}
