/* The page stream of a snapshot in memory, as the source of a pager: small chunks, and all that may go wrong with them. */
#pragma once

#include "base/error.h"
#include "pager/pager.h"

#include <stdbool.h>
#include <stdint.h>

#define PAGES_CHUNK_BYTES 32768u
#define PAGES_HOT_PIECE_BYTES 65536u

struct pages {
    int fd; /* a memfd with the stream */
    uint64_t bytes;
    uint32_t slow_ms;     /* each chunk comes from afar, and takes so long */
    uint32_t break_after; /* so many chunks: the next one is damaged; 0: never */
    const struct pager_run *hot;
    size_t hot_count;
    bool streams; /* the rest behind; else nothing comes that was not asked for */
    /* In the pager: */
    uint32_t reads;
    size_t hot_next;         /* the run of which the next piece is taken */
    bool *here;              /* chunks that have come */
    int far[2];              /* a socket pair to the process that brings chunks */
    uint64_t hot_done;       /* of that run */
    struct pager_run *taken; /* by each worker */
};

/* Fills in the source; `p` must outlive it. */
void pages_source(struct pages *p, struct pager_source *source);
/* For template_options.stream_pages, with a struct pages. */
MUST_CHECK int pages_stream(void *pages, int fd, struct error *err);
