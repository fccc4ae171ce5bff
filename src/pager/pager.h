/* The pager: a template is used before all of its pages are there. It fills them in, over userfaultfd, as they are
 * touched in the template, in its clones and in what these fork; and the rest behind.
 *
 *   template (thaw/template.c)               pager                                    warden
 *   hands over a userfaultfd of its
 *   memory, maps everything            --->  reads the hot set meanwhile
 *   all is mapped                      --->  registers the lazy mappings, fills in
 *                                            the hot set
 *   waits for requests                 <---  go on                       PAGER_READY ---> clones may be made
 *   a clone touches a page             --->  fault: its chunk
 *                                            served?                  <--- PAGER_SERVED  the first request was answered
 *                                            which pages it took  PAGER_HOT_SET --->     has them stored
 *                                            streams the rest, unregisters
 *   follows its advice (huge pages)    <---  go on                    PAGER_COMPLETE ---> later clones have no trace of it
 *
 * The process that begins as a template's feeder (thaw/feeder.h) is the *keeper*; the pager is its child with the same
 * table of descriptors (CLONE_FILES). Both may be made, and confined, before it is known of which snapshot (struct pager_orders). It has
 * one thread, but until the hot set is in: then, where that is big and there are more processors, helper threads decode it beside
 * (decoding.h), and are gone before anybody is served. The kernel gives zeros for missing pages once the last descriptor of a userfaultfd
 * is closed. So none is, while there is a process whose memory it serves: the pager ends only when all of these are
 * gone; if it dies before, the keeper says PAGER_DIED, keeps the descriptors until all are gone, and ends then. Neither
 * dies with the warden: sandboxes and templates do. When both are killed at once, what they served holds the descriptors (hold.c).
 */
#pragma once

#include "base/error.h"
#include "image/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGER_PAGE_BYTES 4096u
#define PAGER_CHUNK_BYTES_MAX (1u << 20)   /* of a source's largest chunk */
#define PAGER_HOT_BYTES_MAX (256ull << 20) /* of a hot set; what is beyond comes as it is touched */
#define PAGER_HOT_RUNS_MAX 65536           /* stretches of a hot set */
#define PAGER_SPACES_MAX 4096              /* address spaces served at once by one pager */
#define PAGER_PIECES_MAX 16384             /* stretches of moved memory in one address space */
#define PAGER_WAITING_MAX 16384            /* faults that wait for chunks from afar */
#define PAGER_FETCHES_MAX 128              /* chunks asked for and not yet there; faults beyond wait to ask */
#define PAGER_FETCHES_BEHIND 16            /* the same, of those that nobody waits for */
#define PAGER_FETCH_TRIES 3                /* of a chunk that was fetched and then not found */

/* A stretch of the page stream, in whole pages. */
struct pager_run {
    uint64_t offset, bytes;
};

/* Where chunk `i` lies in the page stream. */
struct pager_chunk {
    uint64_t offset;
    uint32_t bytes;
};

/* Part of the hot set: `data` has the bytes of all runs, one after the other. */
struct pager_hot_piece {
    struct pager_run *runs;
    size_t run_count;
    uint8_t *data;
};

/* Where the pages come from. Everything is called in the pager's process (a fork of the caller's), by one thread unless said. The
 * chunks cover the stream without gaps; borders lie at whole pages, but for the stream's end. */
struct pager_source {
    void *context;
    size_t chunk_count;
    struct pager_chunk (*chunk)(void *context, size_t i);
    /* Reads and verifies chunk `i` into `out` (its `bytes`). ERROR_NOT_FOUND: it is not here; ERROR_CORRUPT: damaged. */
    int (*read)(void *context, size_t i, void *out, struct error *err);
    /* The hot set, in pieces, in the order in which it was recorded. Several threads decode it: hot_begin, called once, makes so many
     * workers. `hot_take` gives worker `i` the next piece: 1, or 0 at the end, or -1 (then it goes on without the rest); no two calls
     * run at once. `hot_decode` fills in `piece`, whose room is the caller's, with what the worker took; calls for other workers run
     * beside it. hot_take NULL: there is none. */
    int (*hot_begin)(void *context, size_t workers, struct error *err);
    int (*hot_take)(void *context, size_t worker, struct error *err);
    int (*hot_decode)(void *context, size_t worker, struct pager_hot_piece *piece, struct error *err);
    uint64_t hot_bytes;                       /* as it is stored, roughly: whether it is worth helping with */
    uint32_t hot_piece_bytes, hot_piece_runs; /* of a piece, at most */
    /* For chunks that `read` does not find here, or finds damaged. NULL: these are lost. `fetch` begins to bring chunk `i` here and
     * does not block; `urgent`: somebody waits for it. `fetched` gives 1 and the chunk of one that is done (with an error kind in
     * `err` when it could not be had; ERROR_BUSY: it may be had later), or 0 when none is; it is called when fetch_fd is readable. */
    int (*fetch)(void *context, size_t i, bool damaged, bool urgent, struct error *err);
    int (*fetched)(void *context, size_t *i, struct error *err);
    int fetch_fd; /* -1 without */
    /* Called once before the pager gives up its rights: to wipe every key but this snapshot's, and to open what else could not
     * be opened as nobody. NULL: nothing to do. */
    void (*confine)(void *context);
    /* Between two chunks of the rest that is streamed behind, at least; 0: as long as one takes, so that half a processor is left. */
    uint32_t stream_pause_ms;
    /* Descriptors of the source that the pager keeps; all others are closed. */
    const int *fds;
    size_t fd_count;
};

/* What a pager has done so far. */
struct pager_figures {
    uint64_t faults;      /* that brought pages */
    uint64_t zero_faults; /* of memory that is in no stream: it was never written to */
    uint64_t chunks_read, chunks_fetched, chunk_bytes_read;
    uint64_t hot_pages;    /* put in before the template was ready */
    uint64_t missed_pages; /* that the first clone had to ask for, until it had served */
    uint64_t lazy_pages;   /* in all */
    /* CLOCK_MONOTONIC: as the pager began; had the hot set; as the template was mapped, registered, and ready; all in. */
    uint64_t began_ns, read_ns, mapped_ns, registered_ns, ready_ns, complete_ns;
};

/* What the pager says to the warden. SOCK_SEQPACKET, one struct each. */
enum pager_word_kind {
    PAGER_WAITS = 1, /* for its orders: pid */
    PAGER_READY,     /* clones may be made */
    PAGER_SERVING,   /* the figures as PAGER_SERVED came */
    PAGER_HOT_SET, /* with a memfd: an array of struct pager_run, in the order in which they are wanted: what is eager, then
                        what was touched, both in ascending order */
    PAGER_DRIFTED,  /* the hot set no longer fits what is used: record it anew at the next build */
    PAGER_LACKING,  /* it fits but for some pages: record these at the next build */
    PAGER_COMPLETE, /* all pages are in the template, which is no longer served */
    PAGER_FAILED, /* a page cannot be had, or a limit is reached: error, text. Nobody is served any more, but nobody gets a
                        wrong page either: whoever needs one waits */
    PAGER_DIED, /* the same, as the pager was killed; the keeper says it */
};
struct pager_word {
    uint32_t kind, error; /* enum pager_word_kind; enum error_kind */
    int32_t pid;          /* of the pager */
    struct pager_figures figures;
    char text[400];
};
/* And the warden to the pager: one byte. */
#define PAGER_SERVED 'S' /* the first clone has served its first request */

/* Which pages the first clone uses. */
enum pager_recording {
    PAGER_RECORD_NEEDED, /* when there is no hot set */
    PAGER_RECORD_MORE,   /* beside the hot set, what it lacks */
    PAGER_RECORD_ANEW,   /* although there is a hot set, and without it */
};

struct pager_options;

#define PAGER_FEEDER_NAME "thaw-feeder" /* of both processes, while it waits */

/* How a pager that is made ahead of need is told, in two steps, so that it decodes the hot set while the rest is still being read.
 * Called in the pager, which is confined by then; each waits until there is something at warden_fd. 1; 0: nobody needs it any more; -1. */
struct pager_orders {
    void *context;
    int (*await_hot)(
        void *context, struct error *err); /* the source has its hot set, if there is one to be used */
    /* The source has its chunks, and the options have image, record and pages_fd. */
    int (*await_rest)(void *context, struct pager_options *options, struct error *err);
};

struct pager_options {
    const struct pager_orders *orders; /* NULL: all is known */
    const struct image *image;         /* of one process */
    const struct pager_source *source;
    enum pager_recording record;
    int warden_fd;   /* struct pager_word */
    int template_fd; /* a stream socket to the template: see struct pager_hello */
    int pages_fd;    /* a pipe: takes the eager pages, in stream order */
    int hold_fd;     /* of pager_open_hold, or -1 */
};

/* First the template is told of the ring: beside this is a pidfd of the keeper, which has it at the number `hold`; or that is -1, and
 * nothing is beside it. */
struct pager_hold {
    int32_t hold;
};
/* The first message of the template, with the userfaultfd. Then it says a byte when all is mapped, and is told a byte when the
 * hot set is in, and another one when all is. */
struct pager_hello {
    uint64_t bulk_address; /* where the bulk area is */
};
#define PAGER_SAYS_MAPPED 'm'
#define PAGER_SAYS_GO 'g'
#define PAGER_SAYS_COMPLETE 'c'

/* True where this kernel has all that it takes, and the snapshot has something to page in. As root. */
bool pager_can_serve(const struct image *image);
/* In the template's process, while it has CAP_SYS_PTRACE: the userfaultfd of its own memory. */
MUST_CHECK int pager_open_memory(struct error *err);
/* What keeps userfaultfds open although keeper and pager are killed at once (hold.c); before pager_run, as root. -1 where the kernel
 * offers none. */
int pager_open_hold(void);
/* Tells the template of it, or that there is none (-1); by the process that is to become the keeper, and soon, as the template waits for it. */
MUST_CHECK int pager_give_hold(int hold_fd, int template_fd, struct error *err);
/* Becomes keeper and pager; never returns. To be called in a process of its own, with the rights of root. */
void pager_run(const struct pager_options *options) __attribute__((noreturn));
