/* What this kernel and machine offer: every feature is tried, never guessed from a version. For `thaw
 * doctor`, as root or not; whatever changes state is tried in a child process. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum probe_need {
    PROBE_REQUIRED, /* thaw does not work without it */
    PROBE_OPTIONAL, /* something is slower or less without it */
    PROBE_FACT,     /* worth knowing, neither good nor bad */
};

enum probe_state {
    PROBE_PRESENT,
    PROBE_MISSING,
    PROBE_UNKNOWN, /* could not be tried with the rights at hand: run as root */
};

#define PROBE_DETAIL_BYTES 160
#define PROBE_RESULTS_MAX 64

struct probe_result {
    const char *name; /* short: "time namespaces" */
    enum probe_need need;
    enum probe_state state;
    char detail[PROBE_DETAIL_BYTES]; /* what was found, or the kernel's answer: "EPERM" */
    const char *when_missing;        /* one sentence: what its absence means */
};

struct probe_report {
    struct probe_result results[PROBE_RESULTS_MAX];
    size_t count;
    bool usable; /* no required feature is missing */
};

void sandbox_probe(struct probe_report *report);
