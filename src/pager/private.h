/* What the files of the pager share. */
#pragma once

#include "pager/decoding.h"
#include "pager/pager.h"
#include "pager/space.h"

#define PAGER_CACHED_CHUNKS 16
#define PAGER_DESCRIPTORS_MAX (PAGER_SPACES_MAX + 64)

#define HOT_AHEAD_MAX 64 /* pieces */

#define CHUNK_FETCHING 0x80 /* in chunk_states, beside how often it was fetched since it was last read */

struct cached_chunk {
    size_t index;  /* of the chunk */
    uint64_t used; /* when, by p->uses; 0: holds nothing */
    uint8_t *data; /* PAGER_CHUNK_BYTES_MAX and a page of zeros */
};

struct hot {
    struct decoding *decoding;                    /* NULL: there is no hot set, or it is to be recorded */
    struct pager_hot_piece *ahead[HOT_AHEAD_MAX]; /* decoded before it was known of which memory */
    size_t ahead_count, ahead_next;
    struct pager_hot_piece **kept; /* with lazy pages, and come before the template was mapped */
    size_t kept_count, kept_capacity;
    size_t run_count; /* of all pieces that have come */
    uint64_t total;   /* their bytes */
};

/* A fault that waits for a chunk from afar. */
struct waiting_fault {
    struct space *space;
    uint64_t page;
    size_t chunk;
};

struct pager {
    struct pager_options options;
    const struct pager_source *source;
    struct layout layout;
    struct pager_hello hello;
    pid_t keeper;
    int warden_fd, template_fd, pages_fd, epoll_fd;
    struct space *spaces;   /* all that live; the template's, too */
    struct space *template; /* once it is mapped */
    int memory_fd;          /* its userfaultfd, until then */
    size_t space_count;
    struct hot hot;
    struct cached_chunk cache[PAGER_CACHED_CHUNKS];
    uint64_t uses;
    uint8_t *chunk_states;
    uint8_t *chunk_fetches; /* how often each was brought since it was last read */
    size_t fetching;
    struct waiting_fault *waiting;
    size_t waiting_count, waiting_capacity;
    uint64_t *aside; /* addresses of faults that were read while memory was being changed */
    size_t aside_count, aside_capacity;
    size_t stream_next; /* the chunk that is streamed next */
    bool records;       /* the first clone's working set */
    /* A bit for each page of the stream: of the hot set, when more is recorded, and what the first clone asked for until it had
     * served. */
    uint64_t *touched;
    bool has_first; /* the first clone was made */
    bool served;    /* and has served */
    bool warden_is_gone;
    uint64_t quiet_until_ns, stream_after_ns, probe_after_ns, probe_pause_ns;
    struct pager_figures figures;
    struct error failure;
};

/* serve.c */
MUST_CHECK int pager_serve(struct pager *p, struct error *err); /* until nothing is left to serve */

/* chunk.c */
/* 1: chunk `i` is at *data until the next call; 0: it was asked for from afar, or (when too many are) is to be asked for
 * later; -1: it cannot be had. `urgent`: somebody waits for it. */
MUST_CHECK int chunk_get(struct pager *p, size_t i, bool urgent, const uint8_t **data, struct error *err);
/* As chunk_get, and waits for what comes from afar. Only before anything is served. */
MUST_CHECK int chunk_get_now(struct pager *p, size_t i, const uint8_t **data, struct error *err);
/* One chunk that has come from afar: 1 and its index; 0: none; -1: it could not be had, and its index. */
MUST_CHECK int chunk_fetched(struct pager *p, size_t *i, struct error *err);
/* The chunk that holds this page of the stream. */
size_t chunk_of_page(const struct pager *p, uint64_t page);
/* The table of chunks must be what pager.h says, and what they fill whole pages. */
MUST_CHECK int chunk_check_all(const struct pager *p, struct error *err);

/* hot.c */
/* Decodes what there is of the hot set until there is something to read at `until_fd`. */
void hot_decode_ahead(struct pager *p, int until_fd);
/* Gives the template its eager pages, and brings in the hot set: while it is being mapped, and after. */
MUST_CHECK int hot_bring(struct pager *p, struct error *err);
void hot_end(struct pager *p); /* what that took: helpers and memory */
/* A memfd with the runs of what is eager and of what was touched. */
MUST_CHECK int hot_write_recorded(const struct pager *p, struct error *err);

/* pager.c */
/* The template has made all its mappings: they are registered. 1: now or before; 0: not yet (`wait`: until it has); -1. */
MUST_CHECK int pager_register(struct pager *p, bool wait, struct error *err);

/* hold.c */
/* That this userfaultfd stays open as long as what it serves lives, where there is a ring. */
MUST_CHECK int hold_add(const struct pager *p, int fd, struct error *err);
void hold_close(const struct pager *p, int *fd); /* of what lives no more, or is served no more; sets to -1 */

/* confine.c */
void confine_raise_files(void); /* the limit of open files, as far as may be */
/* Closes all other descriptors, and becomes nobody. */
MUST_CHECK int confine_rights(
    const struct pager_options *options, const int *own, size_t own_count, struct error *err);
/* Only the system calls that it needs, in all threads (of prctl: names and PR_SET_PDEATHSIG); none can be made after that. */
MUST_CHECK int confine_calls(bool keeper, struct error *err);
