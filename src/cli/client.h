/* Requests to the server over HTTP, with libcurl. One client keeps one connection. */
#pragma once

#include "cli/cli.h"

#include <jansson.h>
#include <stddef.h>

#define CLIENT_REPLY_BYTES (64u << 20) /* the longest reply that is kept */
#define CLIENT_HEADERS 64

struct client;

struct client_field {
    const char *name, *value;
};

struct client_request {
    const char *method; /* "GET", "POST"... */
    const char *path;   /* percent-encoded, with its query */
    const struct client_field *fields;
    size_t field_count;
    struct bytes body;
    long timeout_s; /* 0: no limit */
    /* When set, body bytes are handed over as they arrive and not kept; a return of -1 ends the request. */
    int (*stream)(void *context, const void *data, size_t len);
    void *context;
};

struct client_reply {
    long status;
    struct buffer body;          /* NUL-terminated, for convenience */
    struct client_field *fields; /* as they came; names are matched without case */
    size_t field_count;
};

MUST_CHECK struct client *client_new(const struct cli_options *options, struct error *err);
void client_free(struct client **client);
#define CLEANUP_CLIENT __attribute__((cleanup(client_free)))

/* -1 when no reply came: the error says what to do. Any status is a reply. */
MUST_CHECK int client_send(struct client *client, const struct client_request *request,
    struct client_reply *reply, struct error *err);
void client_reply_free(struct client_reply *reply);
#define CLEANUP_REPLY __attribute__((cleanup(client_reply_free)))
const char *client_reply_field(const struct client_reply *reply, const char *name); /* NULL when absent */

/* An error from a reply whose status is not 2xx: the server's own sentence. Returns -1. */
int client_refused(const struct client_reply *reply, struct error *err);
/* Ask for JSON; anything but 2xx with JSON is an error. Returns a new reference. */
MUST_CHECK json_t *client_get_json(struct client *client, const char *path, struct error *err);
MUST_CHECK json_t *client_post_json(struct client *client, const char *path, struct error *err);

/* Percent-encoded for a path segment or a query value; malloc'ed. */
char *client_escape(const char *text);

/* Paths of the server, malloc'ed. */
char *evict_path(const struct cli_target *target, bool templates);
char *invoke_path(const struct cli_target *target);
char *configuration_path(const char *name, const char *version); /* version may be NULL */
