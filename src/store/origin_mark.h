/* A chunk in the local folder may carry a mark: the origin had it, at that time. A publish need not send it again then. The mark
 * names the origin, so that it means nothing to another one. Where the file system keeps no such marks (extended attributes)
 * nothing is ever known, and everything is asked for. */
#pragma once

#include "base/bytes.h"

#include <stdint.h>

#define ORIGIN_MARK_ID_BYTES 8

struct origin_mark {
    uint8_t origin_id[ORIGIN_MARK_ID_BYTES]; /* see origin_mark_id */
    uint64_t at_s;                           /* seconds since 1970 */
};

/* Of the origin's address: endpoint, bucket and prefix in one string. */
void origin_mark_id(uint8_t id[ORIGIN_MARK_ID_BYTES], const char *address);
void origin_mark_set(int fd, const struct origin_mark *mark); /* best effort */
/* When it was known to be there; 0: not known. */
uint64_t origin_mark_get(int fd, const uint8_t id[ORIGIN_MARK_ID_BYTES]);
