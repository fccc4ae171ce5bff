/* What template.c and template_events.c share. */
#pragma once

#include "thaw/blob/blob.h"
#include "thaw/template.h"

struct builder {
    int socket;
    pid_t pid;
};

struct feeder {
    int socket; /* the pager's, once it is one */
    int paging; /* the template's end of what is between it and its pager, with a first message in it */
    pid_t pid;
    pid_t pager; /* 0: it has not said yet that it waits */
};
/* After feeder_open: the rest. The descriptor stays the caller's. */
MUST_CHECK int feeder_tell(
    const struct feeder *f, const struct template_options *o, int pages_fd, struct error *err);

struct template
{
    int socket;
    pid_t pid;
    pid_t feeder;               /* writes the pages into a pipe; 0 when it has ended, and with a pager */
    struct error *feeder_error; /* shared memory: what it has to say when it fails; or NULL */
    uint64_t memory_bytes;
    /* With a pager: */
    int pager, both; /* its socket until it has ended, and an epoll of both sockets; or -1 */
    pid_t keeper;
    bool ready, complete, lost, gone;
    uint64_t asked, answered; /* clones */
    uint64_t served;          /* so many were asked for before all pages were in */
};

/* Asks to die with the caller's parent, which is to be `parent`. A change of user clears it. */
MUST_CHECK int die_with_parent(pid_t parent, struct error *err);

/* The process that wrote the pages has ended, or is to. */
void template_reap_feeder(struct template *t);
