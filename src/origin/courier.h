/* The courier's loop: takes the requests of other processes (store/origin.h) to the object store and back. It holds no key of any
 * snapshot; it writes nothing but new chunks, and trusts neither what its clients ask nor what the network answers. */
#pragma once

#include "origin/s3.h"

#define COURIER_CLIENTS_MAX 512
#define COURIER_RUNNING_MAX 48        /* operations at once; others wait in order */
#define COURIER_UNHURRIED_MAX 40      /* of those that nobody waits for */
#define COURIER_SIGN_OF_LIFE_MS 10000 /* to each client that waits for something */

/* Whether the origin works has changed; `text` says what is wrong when it does not. */
typedef void courier_news(bool works, const char *text);

struct courier_options {
    int control_fd; /* the courier's end of the control socket, non-blocking */
    int store_fd;   /* DATA/store */
    struct s3_options s3;
    const struct sigv4_credentials *credentials; /* copied */
    courier_news *news;
};

/* Serves until the control socket ends (0) or something fails. */
MUST_CHECK int courier_run(const struct courier_options *options, struct error *err);
/* The address that marks are made of (see store/origin_mark.h). For the caller to free. */
char *courier_address(const struct s3_options *options);
