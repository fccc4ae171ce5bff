/* Who is frozen: the process that was asked for, and with it every other process of its pid namespace but pid 1.
 * (In a namespace that is the freezer's own: its descendants.) Each is a relative; so is one that has ended and
 * was not waited for, and helpers, which a clone needs for a moment to make sessions, groups and orphans. */
#pragma once

#include "freeze/parts.h"

struct relative {
    enum image_process_kind kind;
    pid_t pid, parent_pid;         /* as we see them; 0: a helper */
    int32_t inner, session, group; /* in the sandbox; 0: outside of it */
    int exit_signal, exit_status;  /* status: of a zombie, as wait4 tells it */
    char name[16];
    struct freeze *freeze; /* IMAGE_LIVE only */
    /* Where it comes from in a clone (births.c). */
    struct relative *parent; /* NULL: the root */
    bool is_orphan;          /* its parent is the sandbox's pid 1 */
    bool is_outsider;        /* its parent is not in the sandbox: a sibling of the root */
    bool is_early;           /* it was forked before its parent's setsid */
    bool has_group;          /* leads, or has inherited, the group that it shall be in */
    int32_t birth_session;   /* the session that it must be born into, or RELATIVE_ANY_SESSION */
    uint32_t index;          /* in the image */
};
#define RELATIVE_ANY_SESSION (-1)
#define RELATIVES_MAX (2 * IMAGE_PROCESSES_MAX)

struct family {
    const struct freeze_request *request;
    struct relative *list; /* [0] is the root; does not move */
    size_t count;
    struct relative **order; /* by index, when they are arranged */
    struct freeze *freezes;  /* of the live ones, in the order of `list`; does not move */
    size_t live_count;
    bool waits_for_births; /* some process must wait for others, or their groups, to be there */
};

/* Stop them all. Free it after a failure too. */
MUST_CHECK int family_stop(struct family *family, const struct freeze_request *request, struct error *err);
/* Kill or release them, as the request says, or leave them stopped; forget all. */
void family_free(struct family *family, bool frozen);
/* How each is born in a clone: who forks it, and in which order. Adds helpers, and gives every relative its
 * index. */
MUST_CHECK int family_arrange(struct family *family, struct error *err);
/* Into the process plan of each: the forks, sessions and groups; of a zombie or helper, its end. */
void family_plan_births(struct family *family, struct image *image);
/* Choose where the template keeps the memory of all but the root. */
MUST_CHECK int family_choose_stash(struct family *family, struct image *image, struct error *err);
