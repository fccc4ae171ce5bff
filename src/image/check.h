/* What a decoded image must be before anything of it is run: every operation is one that a freeze emits for its plan
 * (rules.h), memory is touched only where the process has mappings, and no thread comes back with rights that its plan
 * did not settle. Private to image. */
#pragma once

#include "image/image.h"

/* ERROR_CORRUPT with the process, the plan, the operation and what is wrong with it. */
MUST_CHECK int image_check(const struct image *image, struct error *err);

/* Whether `bytes` from `start` lie in mappings of the process, without a gap. */
bool image_is_mapped(const struct image_process *process, uint64_t start, uint64_t bytes);
