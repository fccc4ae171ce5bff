/* Templates: a parked process whose address space is a snapshot's, and which is forked to make clones. */
#pragma once

#include "base/error.h"
#include "image/image.h"
#include "pager/pager.h"
#include "thaw/builder.h"
#include "thaw/feeder.h"
#include "thaw/working_set.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct template;

struct template_options {
    const struct image *image; /* read only while template_start runs */
    /* Runs in a child process of the caller: writes the whole page stream to `fd`. Returns 0 or
     * -1. */
    int (*stream_pages)(void *context, int fd, struct error *err);
    void *stream_context;
    int pages_fd; /* without stream_pages: a file that is the page stream, at its start */
    /* On demand: the template is ready before all of its pages are in, and a pager (pager/pager.h) serves them from here. NULL:
     * all pages are loaded first, from stream_pages, which is to be given all the same: where pager_can_serve says no (trees of
     * processes, kernels without userfaultfd) it is used. */
    const struct pager_source *pages;
    /* A feeder that was made ahead, and opened: where there is to be a pager it is taken, and becomes that. It makes of `about` what `image`
     * and `pages` are here. NULL, or of NULL: a pager is forked. */
    struct feeder **feeder;
    struct bytes about;
    /* As a TEMPLATE_HOT_SET_DRIFTED or ..._LACKING asked for. A feeder that is to record anew was opened without a hot set. */
    enum pager_recording record_hot_set;
    int init_pidfd; /* pid 1 of a sandbox of the template's own, whose mount namespace shows the files as the
                       clones will see them; no function runs in it. It may end once the template is ready */
    int code_tree_fd; /* a detached mount of the code, attached at code_path in that sandbox */
    const char *code_path;
    struct template_rights rights;
    struct builder *
        *builder; /* is taken, and was made with the same rights; NULL, or of NULL: one is made now */
    const struct sock_fprog
        *clone_filter; /* attached in each clone just before the function runs on; NULL: none */
    const struct sock_fprog *early_clone_filter; /* the same, of clones that are served; NULL: none */
};

/* Makes a template of a builder, a child of the caller. It is ready (or has failed) when template_fd is
 * readable. */
MUST_CHECK struct template *template_start(const struct template_options *options, struct error *err);
int template_fd(const struct template *t);    /* a socket: readable when template_next has something */
pid_t template_pid(const struct template *t); /* the caller waits for it after template_free */
uint64_t template_memory_bytes(const struct template *t);

struct template_clone_args {
    int slots[PLAN_SLOT_COUNT]; /* -1 where the slot is not used; they stay the caller's */
    uint64_t cookie;            /* comes back with the answer */
};
/* Ask for one clone: one message, never blocks. Answers come in order, through template_next. */
MUST_CHECK int template_clone(struct template *t, const struct template_clone_args *args, struct error *err);

/* From now on each clone gets copies of these pages at the fork (see thaw/working_set.h). Once for a template. Where the
 * kernel does not let it, nothing changes. */
MUST_CHECK int template_own_pages(struct template *t, const struct working_set *set, struct error *err);

enum template_event_kind {
    TEMPLATE_NOTHING = 0,  /* no event now */
    TEMPLATE_READY,        /* built (clones may be asked for before; they wait) */
    TEMPLATE_CLONED,       /* cookie, pid, pidfd: the clone is the caller's own child */
    TEMPLATE_CLONE_FAILED, /* cookie, error */
    TEMPLATE_GONE,         /* it could not be built, or died: error. Nothing comes after this */
    /* Only with a pager: */
    TEMPLATE_SERVING, /* the answer to template_served: figures */
    TEMPLATE_HOT_SET, /* what the first clone used: hot_set_fd, to be stored with the snapshot */
    TEMPLATE_HOT_SET_DRIFTED, /* what is stored no longer fits: the next template is to record it anew (record_hot_set) */
    TEMPLATE_HOT_SET_LACKING, /* it lacks some pages: the next template may record these, too */
    TEMPLATE_COMPLETE, /* all pages are in: clones that are asked for from now on have no trace of paging. From now on
                                 template_own_pages makes sense */
    TEMPLATE_PAGES_LOST, /* a page cannot be had (error: ERROR_CORRUPT, ERROR_NOT_FOUND...), or the pager died. Kill and free the
                                 template, and kill every clone of it that is served (event.served): they wait for a page
                                 that never comes, so none of them has seen a wrong one */
};
struct template_event {
    enum template_event_kind kind;
    bool
        served; /* TEMPLATE_CLONED: it was forked before all pages were in: the pager has to live as long as it */
    int hot_set_fd; /* TEMPLATE_HOT_SET: a memfd, an array of struct pager_run; the caller's to close. It comes from an
                                     unprivileged process: to be checked */
    struct pager_figures figures; /* of the pager's events */
    uint64_t cookie;
    pid_t pid; /* as the caller sees it */
    int pidfd; /* the caller's to close */
    uint64_t forked_ns;
    struct error error;
};
/* Never blocks. */
struct template_event template_next(struct template *t);
/* The first invocation of the first clone was answered: what it has touched until now is its working set. More calls, or
 * without a pager: nothing happens. */
void template_served(struct template *t);
/* The keeper, a child of the caller as the template is, or 0 without (see pager/pager.h). It ends by itself when the template and all
 * clones that are served have ended, not before, and must not be killed; the caller reaps it, as any stranger. */
pid_t template_keeper_pid(const struct template *t);
/* After TEMPLATE_GONE: the process is dead, and the caller may reap it while it keeps the rest. From then on template_pid is 0. */
pid_t template_steal_pid(struct template *t);
/* Ends the template process with SIGKILL and frees; its clones live on, and those that are served go on being served; but nobody
 * hears of it any more when that fails (TEMPLATE_PAGES_LOST): so keep a template as long as it has such clones. (Where
 * memory is short: kill(template_pid) alone gives back what no clone shares; the event TEMPLATE_GONE is then no last one.)
 * The caller reaps template_pid and template_keeper_pid. */
void template_free(struct template **t);

/* A sentence about a clone that failed, from what it wrote to its report pipe. */
void template_explain_failure(
    const struct image *image, const struct plan_report *report, char *text, size_t size);
