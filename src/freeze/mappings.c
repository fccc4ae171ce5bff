#include "freeze/mappings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

void mappings_free(struct mappings *m)
{
    for (size_t i = 0; i < m->count; i++)
        free(m->list[i].path);
    free(m->list);
    *m = (struct mappings){0};
}

/* "start-end perms offset major:minor inode   path" */
static bool parse_head(struct mapping *mapping, char *line)
{
    unsigned long start, end, offset, inode;
    unsigned device_major, device_minor;
    char permissions[5];
    int path_at = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, permissions, &offset, &device_major,
            &device_minor, &inode, &path_at) < 7)
        return false;
    *mapping = (struct mapping){.start = start, .end = end, .offset = offset, .inode = inode};
    mapping->device = makedev(device_major, device_minor);
    mapping->protection = (permissions[0] == 'r' ? PROT_READ : 0) | (permissions[1] == 'w' ? PROT_WRITE : 0) |
                          (permissions[2] == 'x' ? PROT_EXEC : 0);
    mapping->shared = permissions[3] == 's';
    char *path = line + path_at, *deleted = strstr(path, " (deleted)");
    if (deleted != NULL && deleted[10] == '\0') {
        mapping->deleted = true;
        *deleted = '\0';
    }
    mapping->path = xstrdup(path);
    return true;
}

static const struct {
    char name[3];
    size_t offset;
} vm_flags[] = {
    {"wf", offsetof(struct mapping, wipe_on_fork)},
    {"dc", offsetof(struct mapping, dont_fork)},
    {"gd", offsetof(struct mapping, grows_down)},
    {"lo", offsetof(struct mapping, locked)},
    {"hg", offsetof(struct mapping, huge_page)},
    {"nh", offsetof(struct mapping, no_huge_page)},
    {"dd", offsetof(struct mapping, dont_dump)},
    {"nr", offsetof(struct mapping, no_reserve)},
    {"ac", offsetof(struct mapping, accounted)},
    {"dp", offsetof(struct mapping, droppable)},
    {"io", offsetof(struct mapping, io)},
    {"pf", offsetof(struct mapping, io)},
    {"ht", offsetof(struct mapping, huge_tlb)},
    {"um", offsetof(struct mapping, userfault)},
    {"uw", offsetof(struct mapping, userfault)},
    {"ui", offsetof(struct mapping, userfault)},
    {"mg", offsetof(struct mapping, mergeable)},
    {"ss", offsetof(struct mapping, shadow_stack)},
    {"sl", offsetof(struct mapping, sealed)},
    {"sr", offsetof(struct mapping, sequential)},
    {"rr", offsetof(struct mapping, random)},
    {"lf", offsetof(struct mapping, lock_on_fault)},
};

/* proc_pid_smaps(5): two-letter codes, separated by blanks. */
static void parse_flags(struct mapping *mapping, char *codes)
{
    char *rest = NULL;
    for (char *code = strtok_r(codes, " ", &rest); code != NULL; code = strtok_r(NULL, " ", &rest))
        for (size_t i = 0; i < countof(vm_flags); i++)
            if (strcmp(code, vm_flags[i].name) == 0)
                *(bool *)((char *)mapping + vm_flags[i].offset) = true;
}

static bool is_head(const char *line)
{
    size_t hex = strspn(line, "0123456789abcdef");
    return hex > 0 && line[hex] == '-';
}

int mappings_read(struct mappings *m, const struct tracee *t, struct error *err)
{
    CLEANUP_BUFFER struct buffer text = {0};
    *m = (struct mappings){0};
    if (tracee_proc_file(t, "smaps", &text, err) < 0)
        return -1;
    buffer_append_u8(&text, 0);
    size_t capacity = 0;
    char *rest = NULL;
    for (char *line = strtok_r((char *)text.data, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (is_head(line)) {
            if (m->count == capacity) {
                capacity = capacity ? 2 * capacity : 128;
                m->list = xrealloc(m->list, capacity * sizeof *m->list);
            }
            if (!parse_head(&m->list[m->count], line)) {
                mappings_free(m);
                return error_set(err, ERROR_INTERNAL, "cannot understand the smaps line \"%s\"", line);
            }
            m->count++;
        } else if (m->count > 0 && strncmp(line, "VmFlags: ", 9) == 0) {
            parse_flags(&m->list[m->count - 1], line + 9);
        } else if (m->count > 0 && strncmp(line, "ProtectionKey:", 14) == 0) {
            m->list[m->count - 1].protection_key = atoi(line + 14);
        }
    }
    return 0;
}
