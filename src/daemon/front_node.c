/* The managed runtimes nodejsN.x. Runs in the front. */
#include "daemon/front_runtimes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODE_DIR "/var/runtime/node" /* inside the sandbox: runtimes/node of this project */
#define MEMORY_OF_A_CPU_MB 1769      /* Lambda's processors come with memory */
#define HELPERS_MAX 4                /* threads of V8's, by default */
#define HEAP_PERCENT 90 /* of the function's memory: the collector hurries before it is used up */

/* The version of a Node program, and the major one of it, 0 when it does not tell. This looks for the name of the
 * release's archive, which every Node carries as process.release.sourceUrl. */
static unsigned read_version(const char *program, char version[FRONT_RUNTIME_VERSION_BYTES])
{
    static const char mark[] = "/node-v";
    front_runtimes_scan(program, (struct bytes){(const uint8_t *)mark, sizeof mark - 1}, version,
        FRONT_RUNTIME_VERSION_BYTES);
    return (unsigned)strtoul(version, NULL, 10);
}

/* The version of the host's plain "node". Some distributions keep all of it in a library, named by its ABI. */
static unsigned read_host_version(char version[FRONT_RUNTIME_VERSION_BYTES])
{
    static const char *const places[] = {"/usr/bin/node", "/usr/lib/x86_64-linux-gnu/libnode.so.108",
        "/usr/lib/x86_64-linux-gnu/libnode.so.109", "/usr/lib/x86_64-linux-gnu/libnode.so.115",
        "/usr/lib/x86_64-linux-gnu/libnode.so.127", "/usr/lib/x86_64-linux-gnu/libnode.so.137"};
    static bool looked;
    static unsigned major;
    static char known[FRONT_RUNTIME_VERSION_BYTES];
    for (size_t i = 0; !looked && major == 0 && i < countof(places); i++)
        major = read_version(places[i], known);
    looked = true;
    memcpy(version, known, sizeof known);
    return major;
}

bool front_node_find(struct front_runtime *runtime)
{
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/node-%u", runtime->number);
    if (access(runtime->program, X_OK) == 0) {
        (void)read_version(runtime->program, runtime->version);
        return true;
    }
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/node");
    return access(runtime->program, X_OK) == 0 && read_host_version(runtime->version) == runtime->number;
}

void front_node_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    (void)fixed_layout;
    /* V8 knows neither the function's memory nor its processors: it asks the whole machine. And each thread of
     * its own takes a part of every thaw. */
    unsigned helpers = config->memory_mb / MEMORY_OF_A_CPU_MB;
    char heap[48], threads[48];
    snprintf(heap, sizeof heap, "--max-old-space-size=%u", config->memory_mb * HEAP_PERCENT / 100);
    snprintf(threads, sizeof threads, "--v8-pool-size=%u",
        helpers < 1             ? 1
        : helpers > HELPERS_MAX ? HELPERS_MAX
                                : helpers);
    front_spec_put(argv, runtime->program);
    front_spec_put(argv, heap);
    front_spec_put(argv, threads);
    /* It would collect garbage some seconds after the function became idle: in clones, beside their first event. */
    front_spec_put(argv, "--no-memory-reducer");
    front_spec_put(argv, NODE_DIR "/bootstrap.mjs");
}

void front_node_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    char path[192];
    snprintf(path, sizeof path,
        "/opt/nodejs/node%u/node_modules:/opt/nodejs/node_modules:" NODE_DIR
        "/node_modules:/var/runtime:/var/task",
        runtime->number);
    front_spec_put_default(block, set, "NODE_PATH", path);
}
