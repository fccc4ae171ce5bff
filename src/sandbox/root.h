/* The base root: the read-only file system that every sandbox starts from, in a mount namespace of its own
 * that no process lives in. Inside the room only. */
#pragma once

#include "base/error.h"
#include "sandbox/sandbox.h"

#define ROOT_HOSTNAME "169-254-100-6"

/* Returns a descriptor of the mount namespace whose root it is; closing the last one frees all of it. */
MUST_CHECK int root_build(const struct sandbox_host_options *options, struct error *err);
/* In a sandbox's init: a copy of the base root, with /proc and /tmp of this sandbox. Returns an O_PATH
 * descriptor of /tmp. */
MUST_CHECK int root_enter_copy(int base_fd, struct error *err);
/* Resize a sandbox's /tmp, from any mount namespace. */
MUST_CHECK int root_resize_tmp(int tmp_fd, uint32_t tmp_mb, struct error *err);
