/* Huge pages in a template: a fork copies one entry for 2 MiB instead of 512, and a clone that writes into
 * such a page copies only the 4 KiB that it writes to (the kernel splits the mapping, in that clone alone).
 */
#pragma once

#include "image/image.h"

/* Ask for every stretch of 2 MiB that is mostly filled from the page stream. The advice may be refused by the
 * kernel (none free, switched off): then the template is only slower to fork. */
void huge_pages_plan(struct plan *plan, const struct image *image);
