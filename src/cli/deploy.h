/* thaw deploy in parts: the package, what is guessed from it, the requests. */
#pragma once

#include "cli/client.h"

#include <stdint.h>

/* ---- deploy_package.c ---- */

struct deploy_entry {
    char *name; /* relative, with slashes */
    bool is_link, is_executable;
    int64_t modified_s;    /* since the epoch */
    struct buffer content; /* of a link: where it leads. NUL-terminated, for convenience */
};

/* All files of a package, in memory and sorted by name. Start from {0}. */
struct deploy_package {
    struct deploy_entry *entries;
    size_t count, capacity;
    uint64_t bytes;       /* of all contents */
    struct buffer as_zip; /* the zip that it was read from, as long as nothing is put into it */
};
void deploy_package_free(struct deploy_package *package);
#define CLEANUP_PACKAGE __attribute__((cleanup(deploy_package_free)))

/* A zip (or jar) as it is, a folder with all that is in it, a Maven project with what it has built, or one file. */
MUST_CHECK int deploy_package_load(struct deploy_package *package, const char *path, struct error *err);
const struct deploy_entry *deploy_package_find(const struct deploy_package *package, const char *name);
/* Adds a file, in place of one of this name. */
void deploy_package_put(struct deploy_package *package, const char *name, struct bytes content);
/* Appends the package as a zip to `out`. */
MUST_CHECK int deploy_package_zip(struct deploy_package *package, struct buffer *out, struct error *err);

/* ---- deploy_archive.c: zips ---- */

/* Takes entries over: `content` is emptied. ERROR_LIMIT when the package becomes too large. */
MUST_CHECK int deploy_package_add(struct deploy_package *package, const struct deploy_entry *about,
    struct buffer *content, struct error *err);
bool deploy_is_zip(struct bytes file);
MUST_CHECK int deploy_archive_read(struct deploy_package *package, struct bytes zip, struct error *err);
MUST_CHECK int deploy_archive_write(
    const struct deploy_package *package, struct buffer *out, struct error *err);

/* ---- deploy_guess.c ---- */

struct deploy_guess {
    char runtime[32], handler[256];
    char from[256]; /* the file that told */
};
/* What the package seems to be. `runtimes` is the server's list, `runtime` what the user said, or NULL. */
MUST_CHECK int deploy_guess(struct deploy_guess *guess, const struct deploy_package *package,
    const json_t *runtimes, const char *runtime, struct error *err);
/* An error that tells what to install, unless the server offers this runtime. */
MUST_CHECK int deploy_check_runtime(const json_t *runtimes, const char *runtime, struct error *err);

/* ---- deploy_api.c ---- */

#define DEPLOY_PRIME_FILE "thaw-prime.json" /* where --prime puts the events */
#define DEPLOY_VARIABLES_MAX 128

struct deploy {
    /* What the user said: NULL, 0 or -1 where nothing. */
    const char *path, *runtime, *handler, *prime;
    long memory_mb, timeout_s;
    const char *variables[DEPLOY_VARIABLES_MAX]; /* K=V */
    size_t variable_count;
    bool no_snap_start, json;
    char *name;
    /* What came of it. */
    struct client *client;
    struct deploy_guess guess; /* runtime "" when nothing was guessed */
    bool created;
    size_t file_count, zip_bytes;
    char *version; /* of which this is the configuration */
    json_t *configuration;
    uint64_t started_ns;
};

/* The function as it is now, or JSON's null when there is none. A new reference. */
MUST_CHECK json_t *deploy_get_function(struct deploy *deploy, struct error *err);
/* Creates the function, or updates it where it differs. `now` is what deploy_get_function gave. */
MUST_CHECK int deploy_send(struct deploy *deploy, const json_t *now, struct bytes zip, struct error *err);
/* Publishes a version and waits until it is usable: version and configuration. */
MUST_CHECK int deploy_publish(struct deploy *deploy, struct error *err);

/* One line on a terminal's standard error, in place of the last one; NULL removes it. Nothing otherwise. */
void deploy_progress(const struct deploy *deploy, const char *text);
