/* Giving up rights. Inside the room only. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/* Empties every capability set of this process; its user stays. */
MUST_CHECK int rights_drop_all(struct error *err);
/* The same, and becomes that user and group, without others, for good. */
MUST_CHECK int rights_become(uid_t uid, gid_t gid, struct error *err);
