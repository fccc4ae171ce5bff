/* The pages of a snapshot as the pager asks for them (pager/pager.h): from the store's local folder, and what is not there from
 * the origin. Made in the warden, and used in the pager's process, a fork of it. */
#pragma once

#include "pager/pager.h"
#include "store/store.h"

struct pages;

/* Takes the reader over: it is closed with it. */
struct pages *pages_new(struct store *store, struct store_reader *reader);
void pages_free(struct pages *pages); /* NULL is fine */
const struct pager_source *pages_source(const struct pages *pages);
