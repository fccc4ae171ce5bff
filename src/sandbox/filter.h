/* seccomp filters, as classic BPF that any attach path can use: seccomp(SECCOMP_SET_MODE_FILTER, 0, prog).
 * The program bytes are position-independent: a freestanding blob may copy prog->filter[0..len) anywhere.
 *
 * A function runs under an allow-list; what is not on it answers ENOSYS, or EPERM where runtimes expect that.
 *   full      cold starts attach this one, just before execve.
 *   template  for a parked template: the same list, and also what its clones call before they give up their
 * rights (setns, clone3, move_mount). Inherited by clones for nothing. clone     the few rules that take
 * those calls away again; attached by the clone as its last step. template + clone together refuse exactly
 * what full refuses. */
#pragma once

#include "base/error.h"

#include <linux/filter.h>

/* Built at the first call, owned by the library, never changed or freed. NULL with an error when libseccomp
 * fails. */
MUST_CHECK const struct sock_fprog *sandbox_filter_full(struct error *err);
MUST_CHECK const struct sock_fprog *sandbox_filter_template(struct error *err);
const struct sock_fprog *sandbox_filter_clone(void);
/* For a clone whose memory a pager serves: userfaultfd tells of no MADV_WIPEONFORK and no MADV_GUARD_INSTALL, and puts pages in all
 * the same. So it refuses them, too, as kernels before 4.14 and 6.13 do, and programs do without. */
const struct sock_fprog *sandbox_filter_early_clone(void);
