/* What holds for memory that is yet to be mapped, and what cannot be kept of policies for NUMA. */
#include "freeze/pages.h"
#include "freeze/parts.h"

#include "base/fd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

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

/* "address policy ..." for each mapping: all must have the default one. */
static int refuse_memory_policies(struct freeze *f, struct error *err)
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
        if (sscanf(line, "%lx %63s", &start, policy) == 2 && strcmp(policy, "default") != 0)
            return tracee_refuse(&f->tracee, err,
                "mapping %#lx has a NUMA memory policy (%s), which cannot be frozen yet", start, policy);
    }
    return 0;
}

int freeze_memory_settings(struct freeze *f, struct error *err)
{
    if (refuse_memory_policies(f, err) < 0)
        return -1;
    return freeze_future_locks(f, err);
}
