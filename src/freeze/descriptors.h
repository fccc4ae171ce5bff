/* Descriptors: how the files descriptors*.c work together. An open file description (what dup shares) is read
 * once and restored once; a kind (pipe, eventfd...) knows how. Numbers are assigned while compiling: in the
 * clone the table is empty below the floor, and the kernel always hands out the lowest free number, so that
 * the result of every creating call is known beforehand and is what the plan expects.
 *
 * In a tree the root makes the descriptions of all processes, at numbers above all that any of them has, as if
 * they were the descriptors of one process; the others inherit them. Each process then duplicates what is its
 * own to its own numbers, and closes the rest. */
#pragma once

#include "freeze/parts.h"

#include <stdio.h>
#include <sys/stat.h>

#define DESCRIPTORS_PARKED_MAX 16   /* numbers above the process's own that the plan may use meanwhile */
#define DESCRIPTORS_TEMPLATE_MAX 48 /* numbers above those that a template has for itself and for requests */
#define DESCRIPTORS_CONTENT_MAX \
    (256ull << 20)                         /* bytes of deleted files, memfds and shared memory together \
                                            */
#define DESCRIPTORS_MESSAGE_MAX (1u << 20) /* one queued message */
#define DESCRIPTORS_QUEUE_MAX (8u << 20)   /* all queued bytes of one socket */

struct description;
struct descriptors;

struct descriptor_kind {
    const char *name; /* "pipe" */
    bool (*is)(const struct descriptors *d, const struct description *o);
    /* Before anything is planned: what needs a look at other descriptions. May be NULL. */
    int (*read)(struct descriptors *d, struct description *o, struct error *err);
    /* Create it (and any partner that can only be created together with it) and put it at its numbers. */
    int (*restore)(struct descriptors *d, struct description *o, struct error *err);
    /* After all descriptors exist: what refers to others. May be NULL. */
    int (*finish)(struct descriptors *d, struct description *o, struct error *err);
};

/* One process's descriptor. */
struct holding {
    struct freeze *who;
    int fd;
    bool close_on_exec;
    struct buffer info; /* what /proc/PID/fdinfo says, NUL-terminated */
};

struct description {
    int *fds; /* the descriptors in the plan that share it, ascending; in a tree one that stands for them */
    bool *close_on_exec;
    size_t fd_count;
    struct holding
        *holdings; /* the processes' descriptors that share it; none if nobody has accepted it yet */
    size_t holding_count;
    const struct descriptor_kind *kind;
    int copy;  /* our own descriptor of it */
    int flags; /* open flags and access mode, without O_CLOEXEC */
    uint64_t position;
    struct stat st;
    char *link;         /* what /proc/PID/fd says */
    struct buffer info; /* of the first holding, or empty; NUL-terminated */
    bool restored;
    bool opened_by_each; /* in a tree: not by the root, but (a pidfd) with this number and these flags */
    int32_t opened_pid;
    uint64_t opened_flags;
    void *detail; /* the kind's own: freed with free() */
};

struct descriptors {
    struct freeze *f;
    struct image *image;
    struct description *list; /* in the order of their first numbers */
    size_t count, capacity;   /* the list does not move */
    int max_fd;               /* of the plan; -1: none is open */
    int base;                 /* in a tree: what stands for all has this number or a higher one */
    uint8_t *used;            /* by number: whether the plan, at this point, has something there */
    size_t used_size;
    int subject;      /* the descriptor that is being restored, for the plan's error texts */
    int root_fd;      /* the process's root, for looking at files as it sees them */
    struct plan late; /* ops that run after the shared mappings are in place: seals, locks */
    struct plan last; /* ops that run when nothing touches a file any more: watches */
    struct stat log;  /* of request->log_fd; st_ino 0 when there is none */
    int log_at;       /* the number that already is this clone's log, or -1 */
    uint64_t content_bytes;
    void *sockets; /* descriptors_socket.c's own */
};

/* Every descriptor of every process: fills d->list. */
MUST_CHECK int descriptors_read_all(struct descriptors *d, struct error *err);
void descriptors_free_description(struct description *o);

/* Append a system call to the process plan (or the late one); all must succeed unless changed after. */
struct plan_op *descriptors_mark(struct descriptors *d, struct plan_op *op);
#define descriptors_call(d, number, ...) \
    descriptors_mark(d, plan_call(&(d)->f->process->process_plan, number, __VA_ARGS__))
#define descriptors_late_call(d, number, ...) descriptors_mark(d, plan_call(&(d)->late, number, __VA_ARGS__))
#define descriptors_last_call(d, number, ...) descriptors_mark(d, plan_call(&(d)->last, number, __VA_ARGS__))

/* Numbers. */
int descriptors_highest(void);                     /* the highest number that can be frozen */
int descriptors_next(const struct descriptors *d); /* the lowest that is free now */
/* `op` creates a descriptor: it gets the lowest free number, which is returned. */
int descriptors_expect(struct descriptors *d, struct plan_op *op);
int descriptors_take(struct descriptors *d); /* the same, for calls that create several */
void descriptors_close(struct descriptors *d, int fd);
/* The plan has put something at this very number. */
void descriptors_occupy(struct descriptors *d, int fd);
/* Whether something that is created now should be close-on-exec to fit its place. */
bool descriptors_cloexec_for(const struct description *o, int at);

/* Something the plan has just created, at a number that may not be its own. */
struct descriptor_made {
    struct description *of; /* NULL: a helper, to be closed */
    int at;
    bool close_on_exec; /* as it was created */
};
/* Move what was made to the numbers it has in the process; helpers are closed. Marks them restored. */
MUST_CHECK int descriptors_place(
    struct descriptors *d, struct descriptor_made *made, size_t count, struct error *err);
MUST_CHECK int descriptors_place_one(
    struct descriptors *d, struct description *o, int at, bool close_on_exec, struct error *err);
/* Move a helper out of the way of the process's own numbers; returns where it is then, or -1. */
MUST_CHECK int descriptors_park(struct descriptors *d, int at, struct error *err);
/* fcntl(F_SETFL) when the description's flags are not `created_with` already. */
void descriptors_set_flags(struct descriptors *d, const struct description *o, int created_with);

/* Reading. */
bool descriptors_info_number(const struct description *o, const char *key, int base, uint64_t *value);
/* The n-th line of fdinfo that begins with `key`, without the key; NULL when there are fewer. */
const char *descriptors_info_line(const struct description *o, const char *key, size_t n);
const char *descriptors_text_line(const struct buffer *info, const char *key, size_t n);
/* The description that our own descriptor `copy` is a copy of, or NULL. */
struct description *descriptors_find_copy(struct descriptors *d, int copy);
struct description *descriptors_find_fd(struct descriptors *d, const struct freeze *who, int fd);
/* The number by which people know it, or -1. */
int descriptors_shown_fd(const struct description *o);
/* "process 12 (python3): descriptor 7 (pipe:[123]) ..." with kind ERROR_UNSUPPORTED. */
int descriptors_refuse(const struct descriptors *d, const struct description *o, struct error *err,
    const char *format, ...) PRINTF_LIKE(4, 5);
void descriptors_note(struct descriptors *d, const struct description *o, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Open `o` by a path that is there at this moment, put it at its numbers and its position. */
MUST_CHECK int descriptors_open_by_path(
    struct descriptors *d, struct description *o, struct plan_arg path, struct error *err);
void descriptors_restore_position(struct descriptors *d, const struct description *o);

/* Contents of a file that is reachable as our descriptor `source`: ops that write its data, not its holes,
 * to the clone's descriptor `at`, and set its length. */
MUST_CHECK int descriptors_write_contents(struct freeze *f, struct plan *plan, int source, struct plan_arg at,
    uint64_t size, uint64_t *total, struct error *err);

/* The kinds, and what their files share. */
extern const struct descriptor_kind descriptor_kind_stream, descriptor_kind_file, descriptor_kind_folder,
    descriptor_kind_path, descriptor_kind_device, descriptor_kind_deleted, descriptor_kind_memfd,
    descriptor_kind_log, descriptor_kind_pipe, descriptor_kind_fifo, descriptor_kind_eventfd,
    descriptor_kind_timerfd, descriptor_kind_signalfd, descriptor_kind_inotify, descriptor_kind_epoll,
    descriptor_kind_unix, descriptor_kind_tcp, descriptor_kind_udp, descriptor_kind_netlink,
    descriptor_kind_pidfd;

/* A file that has lost its name, made again at `*path` (in the data area; the caller's plan must unlink it
 * when all who need it have opened it): returns the number of a read-write descriptor of it, close-on-exec as
 * told. */
MUST_CHECK int descriptors_make_deleted(struct descriptors *d, const char *link, const struct stat *st,
    int source, bool close_on_exec, uint64_t *path, struct error *err);
MUST_CHECK int descriptors_make_memfd(struct descriptors *d, const char *link, const struct stat *st,
    int source, bool close_on_exec, struct error *err);
/* In a tree: move what was made at a low number to one above all; returns it. */
int descriptors_keep_for_all(struct descriptors *d, int at);
/* Append `from` to `to`. */
void descriptors_append_plan(struct plan *to, const struct plan *from);
/* Before anything is read from a socket: where the process runs on afterwards, what is there to be read refuses the
 * freeze, as it would be taken away. Pipes are copied without being read. */
MUST_CHECK int descriptors_refuse_queue(
    struct descriptors *d, const struct description *o, struct error *err);
MUST_CHECK int descriptors_restore_locks(struct descriptors *d, struct description *o, struct error *err);
MUST_CHECK int freeze_refuse_ipc_objects(struct freeze *f, struct error *err); /* ipc.c */
MUST_CHECK int descriptors_refuse_events(const struct freeze *f, struct error *err);
void freeze_forget_descriptors(struct freeze *f);
void socket_forget_table(void *sockets);

/* /tmp (tmp_files.c). */
struct tmp_files;
/* The path (as the process sees it) of a file of /tmp by its inode; NULL when it has none (deleted). */
const char *tmp_files_find(const struct tmp_files *t, dev_t device, ino_t inode);
bool tmp_files_is_device(const struct tmp_files *t, dev_t device);
uint64_t tmp_files_bytes(const struct tmp_files *t); /* of all contents */
bool tmp_files_any(const struct tmp_files *t);
bool tmp_files_has_path(const struct tmp_files *t, const char *path);
/* The user's extended attributes of `source`, a descriptor of ours, are set on the clone's descriptor `at`; any
 * others refuse the freeze. `path` is for the error's text. */
MUST_CHECK int tmp_files_write_xattrs(
    struct freeze *f, int source, const char *path, struct plan_arg at, struct error *err);
/* From here on the plan's new files get exactly the mode that is asked for. */
void tmp_files_clear_umask(struct freeze *f);
/* The node at `path` is made by a socket's bind: only its mode and times are then set, at the end. */
void tmp_files_made_by_bind(struct freeze *f, const char *path);
/* What must come last: modes and times of what other parts have still changed, the umask. */
void tmp_files_finish(struct freeze *f);
