/* Feeders: processes that become a template's keeper and pager (pager/pager.h). One that is made ahead waits to be told of which
 * snapshot, and holds nothing of any: what it must not have it wipes before it waits. It dies with the caller until then. */
#pragma once

#include "base/bytes.h"
#include "image/image.h"
#include "pager/pager.h"

#include <stdbool.h>
#include <sys/types.h>

#define FEEDER_FDS_MAX 4 /* of a source */

struct feeder;

struct feeder_options {
    /* Called in the feeder's process. `prepare`, before it waits: wipes what it must not hold, makes what every snapshot takes. */
    void *context;
    void (*prepare)(void *context);
    /* Makes image and source of what the caller of template_start says of a snapshot; the descriptors are ours from then on. */
    int (*open)(void *context, struct bytes about, const int *fds, size_t fd_count, struct image *image,
        const struct pager_source **source, struct error *err);
    const int *fds; /* that it keeps while it waits; all others are closed */
    size_t fd_count;
};

/* Forks one, a child of the caller; the options are read in it only. */
MUST_CHECK struct feeder *feeder_start(const struct feeder_options *options, struct error *err);
pid_t feeder_pid(const struct feeder *f);
bool feeder_lives(const struct feeder *f);
/* Ends its process with SIGKILL; the caller reaps it. NULL is fine. */
void feeder_free(struct feeder **f);
