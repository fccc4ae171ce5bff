/* The pages of a snapshot as the pager asks for them (pager/pager.h): from the store's local folder, and what is not there from
 * the origin. Made in the warden, and used in the pager's process, a fork of it. */
#pragma once

#include "image/image.h"
#include "pager/pager.h"
#include "store/store.h"

struct pages;

/* Takes the reader over: it is closed with it. */
struct pages *pages_new(struct store *store, struct store_reader *reader);
/* For a feeder: what to tell it of a snapshot, and what it makes of that. The descriptors are those of the reader. */
void pages_tell(struct store_reader *reader, struct bytes manifest, struct buffer *out);
MUST_CHECK struct pages *pages_told(struct store *store, struct bytes about, const int *fds, size_t fd_count,
    struct image *image, struct error *err);
void pages_free(struct pages *pages); /* NULL is fine */
const struct pager_source *pages_source(const struct pages *pages);
