/* What the files of the courier share. */
#pragma once

#include "origin/courier.h"
#include "store/origin_mark.h"
#include "store/origin_wire.h"

#include <sys/queue.h>

/* One request of a client:
 *
 *   QUEUED --there is room--> RUNNING --answered--> told to the client (or dropped, when that has left) and freed */
struct job {
    STAILQ_ENTRY(job) queued;
    struct courier *courier;
    struct client *client; /* NULL: it has left */
    LIST_ENTRY(job) of_client;
    struct origin_wire_request request;
    struct s3_operation operation;
    int fd;            /* what is to be stored, or takes what comes */
    char tmp_name[40]; /* of the latter in DATA/store, while it has one; else "" */
};

struct parcel { /* a reply that its client has not yet taken */
    STAILQ_ENTRY(parcel) entry;
    struct buffer packet;
    int fd;
};

struct client {
    LIST_ENTRY(client) entry;
    struct courier *courier;
    int fd;
    struct loop_watch *watch;
    LIST_HEAD(, job) jobs;
    size_t job_count;
    STAILQ_HEAD(, parcel) parcels;
    size_t parcel_count;
};

struct courier {
    const struct courier_options *options;
    struct loop *loop;
    struct s3 *s3;
    struct loop_watch *control_watch;
    struct loop_timer *life_timer;
    LIST_HEAD(, client) clients;
    size_t client_count;
    STAILQ_HEAD(job_queue, job) urgent, unhurried;
    size_t running, running_unhurried;
    uint8_t mark_id[ORIGIN_MARK_ID_BYTES];
    uint64_t tmp_count;
    bool told, works; /* the news */
    struct s3_operation greeting;
    bool failed;
    struct error failure;
};

/* courier_clients.c */
void courier_control_event(void *courier, uint32_t events);
void courier_free_clients(struct courier *courier);
void courier_signs_of_life(void *courier);
/* The descriptor stays the caller's. */
void client_send(struct client *client, const struct origin_wire_reply *reply, int fd);

/* courier.c */
void courier_take(struct client *client, const struct origin_wire_request *request, int fd);

/* courier_files.c: what comes goes into DATA/store/tmp, and chunks from there to their place. */
MUST_CHECK int courier_open_file(struct job *job, struct error *err);
MUST_CHECK int courier_place_file(struct job *job, struct error *err);
void courier_drop_file(struct job *job);
