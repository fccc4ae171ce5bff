/* What the warden tells of its templates. */
#include "base/fd.h"
#include "daemon/warden_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

uint64_t template_memory_held(const struct template_entry *t)
{
    char path[32], text[128];
    unsigned long resident = 0, shared = 0;
    if (t->template == NULL)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/statm", template_pid(t->template));
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%*u %lu %lu", &resident, &shared) != 2 || resident < shared)
        return 0;
    return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void template_tell_status(struct warden *w, uint64_t request_id)
{
    struct budget_counts counts = budget_count(w->budget);
    struct wire_message m = {.type = WIRE_STATUS_TOLD};
    const struct template_entry *t;
    m.status_told = (struct wire_status_told){.request_id = request_id,
        .templates = counts.templates,
        .budget_bytes = counts.budget_bytes,
        .hits = counts.hits,
        .misses = counts.misses,
        .builds = counts.builds,
        .evictions = counts.evictions};
    TAILQ_FOREACH (t, &w->templates, entry)
        m.status_told.bytes += template_memory_held(t);
    warden_send(w, &m, NULL, 0);
}
