/* The origin: where every snapshot's files are kept beside the local folder, so that several machines share them.
 * This is the client's side. What talks to the origin is another process, the courier (room origin), which this
 * process reaches over a socket of its own:
 *
 *      this process --- request {verb, name} (+ the file to store) ---> courier --- HTTP ---> object store
 *                   <-- reply {error, size, time} (+ the file) ------
 *
 * Names are those of the files below DATA/store: "chunks/ab/REST", "snapshots/ID/key", "domains/NAME"...
 * Contents travel as descriptors of files. What was fetched is as it came over the network: it is for the caller to
 * verify, as whatever comes from the local folder is. A chunk that was fetched is put into DATA/store/chunks by the courier,
 * too, when nothing of its name is there; all else is for the caller to put into its place.
 *
 * The courier retries, with limits of time for everything; it always answers. When it dies it is started again, and what
 * was under way is asked again: callers see one answer for every request, at the latest after ORIGIN_SILENCE_MS without a sign
 * of life from the courier. Not thread-safe: a thread that wants to use it needs an `origin` of its own. */
#pragma once

#include "base/bytes.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

#define ORIGIN_NAME_MAX 120                  /* bytes of a name */
#define ORIGIN_IN_FLIGHT_MAX 256             /* requests of one `struct origin` */
#define ORIGIN_LIST_MAX 400                  /* entries in one answer to ORIGIN_LIST */
#define ORIGIN_OBJECT_BYTES_MAX (8ull << 30) /* the largest file */
#define ORIGIN_SILENCE_MS 120000             /* without a word from the courier, all requests fail */

#define ORIGIN_CONFIRMED_S \
    (12 * 3600) /* a chunk that it had so lately needs not to be stored anew for a publish */
#define ORIGIN_GRACE_S (24 * 3600) /* a collection removes nothing from it that was stored more lately */

enum origin_verb {
    ORIGIN_FETCH = 1,
    ORIGIN_STORE,  /* overwrites, unless ORIGIN_IF_ABSENT */
    ORIGIN_REMOVE, /* what is not there is no error */
    ORIGIN_LIST,
    ORIGIN_LOOK, /* is it there? ERROR_NOT_FOUND, or its size and time */
};

enum origin_flag {
    ORIGIN_URGENT = 1,    /* before all that is not: somebody waits for it, as a thaw does */
    ORIGIN_REPLACE = 2,   /* FETCH of a chunk: the one in the local folder is damaged */
    ORIGIN_IF_ABSENT = 4, /* STORE: ERROR_CONFLICT when the name is taken, and nothing is changed */
    ORIGIN_FLAGS = 7,
};

struct origin_request {
    enum origin_verb verb;
    unsigned flags;    /* enum origin_flag */
    const char *name;  /* LIST: a prefix that ends with '/' */
    const char *after; /* LIST: only names behind this one; or NULL */
    int fd; /* STORE: a file, read from its start by its size now; stays the caller's, open until the reply */
    uint64_t bytes_max; /* FETCH: more is ERROR_LIMIT; 0: ORIGIN_OBJECT_BYTES_MAX */
    uint64_t before_ns; /* no try begins later, by clock_boot_ns: ERROR_BUSY; 0: no such limit */
    void *context;      /* comes back with the reply */
};

struct origin_entry {
    char name[ORIGIN_NAME_MAX + 1];
    uint64_t bytes;
    uint64_t modified_s; /* seconds since 1970, by the origin's clock */
};

/* Kinds of error: ERROR_NOT_FOUND (the origin answered that there is no such object), ERROR_CONFLICT (see
 * ORIGIN_IF_ABSENT), ERROR_LIMIT (too large), ERROR_INVALID (it refuses: credentials, bucket...), ERROR_CORRUPT (what comes is not what was stored), ERROR_BUSY (out of reach, or
 * failing, after all retries: later it may work), ERROR_SYSTEM (the local folder). The text is a sentence for people. */
struct origin_reply {
    void *context;
    struct error error; /* ERROR_NONE: it is done */
    int fd;             /* FETCH: the contents, to be read from offset 0 on; the caller's to close; else -1 */
    uint64_t bytes;     /* FETCH, LOOK: the size */
    uint64_t modified_s;          /* FETCH, LOOK: when it was stored, by the origin's clock */
    struct origin_entry *entries; /* LIST: for the caller to free; sorted by name, as bytes */
    size_t entry_count;
    bool more; /* LIST: ask again, after the last entry */
};

struct origin;

/* A connection to the courier, made at the first request. `control_fd` (not kept open by this, and not closed) is the clients'
 * end of the control socket that the warden holds; children inherit it. For one process: the one that made it, or one child of it,
 * when nothing was asked before the fork. Beyond its making it needs of the kernel: socketpair, sendmsg, recvmsg, epoll_ctl,
 * timerfd_settime, poll, read, write, close, and memory from malloc. */
struct origin *origin_new(int control_fd);
#define ORIGIN_FDS 3
void origin_fds(const struct origin *origin,
    int out[ORIGIN_FDS]);                /* what a process that closes all others keeps, beside control_fd */
void origin_free(struct origin *origin); /* NULL is fine; the replies of what is under way are lost */

/* Send a request. ERROR_BUSY: ORIGIN_IN_FLIGHT_MAX are under way; ERROR_INVALID: not a name. Never blocks. */
MUST_CHECK int origin_begin(struct origin *origin, const struct origin_request *request, struct error *err);
/* The next reply, in no order. False: there is none yet. Never blocks. */
bool origin_next(struct origin *origin, struct origin_reply *reply);
/* Becomes readable when origin_next should be called (not more often than that; it is the same descriptor for good, so that it may be in
 * an epoll set). */
int origin_fd(const struct origin *origin);
size_t origin_in_flight(const struct origin *origin);
/* The next reply, waiting for it. -1 only when nothing is under way, or the system fails. */
MUST_CHECK int origin_wait(struct origin *origin, struct origin_reply *reply, struct error *err);

/* One request and its reply; nothing else may be under way (ERROR_BUSY). */
MUST_CHECK int origin_fetch(
    struct origin *origin, const char *name, unsigned flags, int *fd, struct error *err);
MUST_CHECK int origin_store(
    struct origin *origin, const char *name, unsigned flags, int fd, struct error *err);
MUST_CHECK int origin_remove(struct origin *origin, const char *name, struct error *err);
/* Every entry below the prefix, in the order of the names. A callback that returns -1 ends it. */
typedef int origin_each(void *context, const struct origin_entry *entry, struct error *err);
MUST_CHECK int origin_list(
    struct origin *origin, const char *prefix, origin_each *each, void *context, struct error *err);

/* A name that may be asked for: parts of [A-Za-z0-9._-] that do not begin with a dot, with '/' between them, at most
 * ORIGIN_NAME_MAX bytes. */
bool origin_name_is_valid(const char *name);
