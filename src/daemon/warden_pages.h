/* The pages of a snapshot as the pager asks for them (pager/pager.h): from the store's local folder, and what is not there from
 * the origin. Made in the warden, and used in the pager's process, a fork of it. */
#pragma once

#include "image/image.h"
#include "pager/pager.h"
#include "store/store.h"

struct pages;

/* Takes the reader over: it is closed with it. */
struct pages *pages_new(struct store *store, struct store_reader *reader);
/* In a feeder, before it is confined: without a snapshot, and without the master key. Then what it is told, in two steps
 * (store_reader_tell, and pages_tell); `hot_fd`, or -1, is ours from then on. */
MUST_CHECK struct pages *pages_new_untold(struct store *store, struct error *err);
MUST_CHECK int pages_told_hot(struct pages *pages, struct bytes about, int hot_fd, struct error *err);
MUST_CHECK int pages_told(struct pages *pages, struct bytes about, struct image *image, struct error *err);
void pages_tell(const struct store_reader *reader, struct bytes manifest, struct buffer *out);
void pages_free(struct pages *pages); /* NULL is fine */
const struct pager_source *pages_source(const struct pages *pages);
