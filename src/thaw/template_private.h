/* What template.c and template_events.c share. */
#pragma once

#include "thaw/template.h"

struct template
{
    int socket;
    pid_t pid, feeder;
    uint64_t memory_bytes;
    /* With a pager: */
    int pager, both; /* its socket until it has ended, and an epoll of both sockets; or -1 */
    pid_t keeper;
    bool ready, complete, lost, gone;
    uint64_t asked, answered; /* clones */
    uint64_t served;          /* so many were asked for before all pages were in */
};

/* The process that wrote the pages has ended, or is to. */
void template_reap_feeder(struct template *t);
