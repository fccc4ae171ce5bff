/* The managed runtimes: which of them this host has, and how each one is started. Runs in the front. */
#pragma once

#include "base/bytes.h"
#include "catalog/catalog.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define FRONT_RUNTIMES_MAX 32
#define FRONT_RUNTIME_VERSION_BYTES 32

struct front_runtime_family;

/* One runtime that was found on this host. Its program is below /usr, the folder of the host's that sandboxes show. */
struct front_runtime {
    char name[32];   /* "python3.11" */
    unsigned number; /* 11: what tells the runtimes of a family apart */
    char program[128];
    char version[FRONT_RUNTIME_VERSION_BYTES]; /* "3.11.2", as far as its files tell; else "" */
    const struct front_runtime_family *family;
};

/* Fills `found` with at most `max` runtimes. The host is looked at once, at start: this may read whole programs. */
size_t front_runtimes_find(struct front_runtime *found, size_t max);

/* Every runtime of `found`, the provided ones, and those of Lambda's that this host lacks, as the JSON array that
 * the server's own API gives. A new reference. */
json_t *front_runtimes_describe(const struct front_runtime *found, size_t count);

/* The digits and dots that follow the first `mark` in a program's file; "" when it is not there. The front may start
 * no programs, so it looks into them. */
void front_runtimes_scan(const char *program, struct bytes mark, char *version, size_t size);

/* The runtime of this name, NULL when the host does not have it. */
const struct front_runtime *front_runtimes_get(
    const struct front_runtime *found, size_t count, const char *name);

/* Appends the command line, each argument with its NUL. `fixed_layout`: of a process whose addresses are not random. */
void front_runtimes_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv);

/* Appends the family's own variables, save those that the function `set` itself. */
void front_runtimes_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block);

/* How front_spec.c and the families write "text\0", "name=value\0", and the latter unless it is `set`. */
void front_spec_put(struct buffer *block, const char *text);
void front_spec_put_pair(struct buffer *block, const char *name, const char *value);
void front_spec_put_default(
    struct buffer *block, const struct catalog_map *set, const char *name, const char *value);

/* The Node family, a row of the table: the host's /usr/bin/node-N, or its /usr/bin/node when that is a Node N. */
bool front_node_find(struct front_runtime *runtime);
void front_node_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv);
void front_node_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block);

/* The Java family, a row of the table. Its program is JDK/bin/java of the first JDK that has the version. */
bool front_java_find(struct front_runtime *runtime);
void front_java_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv);
void front_java_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block);

/* The .NET family, a row of the table. Its program is ROOT/dotnet of the first .NET below /usr that has the version. */
bool front_dotnet_find(struct front_runtime *runtime);
void front_dotnet_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv);
void front_dotnet_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block);
