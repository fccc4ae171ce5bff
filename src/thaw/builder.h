/* Builders: processes that templates are made of. A builder has done all that does not depend on a snapshot: it has given up its
 * rights and all memory of the caller, and nothing is left in it but the blob, which waits to be told what to build. It takes
 * some two milliseconds to make one, so they can be made ahead of need. It dies with the caller. */
#pragma once

#include "base/error.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <sys/types.h>

struct builder;

/* What a template may do, and as whom. */
struct template_rights {
    bool
        keep; /* the caller's user and capabilities: the plan says who the clones are. Without what follows */
    uid_t uid; /* the sandbox's user */
    gid_t gid;
    const struct sock_fprog *filter; /* attached in the template, and so inherited; NULL: none */
};

/* Forks one, a child of the caller. It may be given a template to build at once. */
MUST_CHECK struct builder *builder_start(const struct template_rights *rights, struct error *err);
pid_t builder_pid(const struct builder *b);
bool builder_lives(const struct builder *b);
/* Ends its process with SIGKILL; the caller reaps it. NULL is fine. */
void builder_free(struct builder **b);
