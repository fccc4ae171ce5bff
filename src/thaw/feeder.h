/* Feeders: processes that become a template's keeper and pager (pager/pager.h). They are made ahead of need, both of them, confined
 * and with all that does not depend on the snapshot; they wait to be told of which, and hold nothing of any: what they must not have
 * is wiped before they are confined. They die with the caller until they are told.
 *
 *   feeder_open: whose hot set      --->  decodes it, piece by piece
 *   template_start: the rest        --->  is the template's pager
 */
#pragma once

#include "base/bytes.h"
#include "image/image.h"
#include "pager/pager.h"

#include <stdbool.h>
#include <sys/types.h>

#define FEEDER_ABOUT_BYTES_MAX 1024 /* of what feeder_open says */

struct feeder;

/* Called in the feeder's processes. */
struct feeder_options {
    void *context;
    /* Before it is confined: wipes what it must not hold, makes what every snapshot takes. What it returns is for the other two, and lives as
     * long as the process, with its source. NULL: it fails. */
    void *(*prepare)(void *context, const struct pager_source **source, struct error *err);
    /* In the pager. What feeder_open said: the source has its hot set then, or none; `hot_fd`, or -1, is ours from then on. */
    int (*open)(void *prepared, struct bytes about, int hot_fd, struct error *err);
    /* What the caller of template_start says of the snapshot: the source has its chunks, and image is made of it. */
    int (*complete)(void *prepared, struct bytes about, struct image *image, struct error *err);
};

/* Forks one, a child of the caller; the options are read in it only, and `context` is used there. */
MUST_CHECK struct feeder *feeder_start(const struct feeder_options *options, struct error *err);
/* Tells it of which snapshot, so that it begins with the hot set; `hot_fd` stays the caller's, and is -1 where none is to be used.
 * Once, and to be followed by template_start or feeder_free. */
MUST_CHECK int feeder_open(const struct feeder *f, struct bytes about, int hot_fd, struct error *err);
pid_t feeder_pid(const struct feeder *f);
bool feeder_lives(struct feeder *f);
/* Ends its processes; the caller reaps feeder_pid. NULL is fine. */
void feeder_free(struct feeder **f);
