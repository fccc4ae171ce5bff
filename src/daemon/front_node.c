/* The managed runtimes nodejsN.x. Runs in the front. */
#include "base/fd.h"
#include "daemon/front_runtimes.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NODE_DIR "/var/runtime/node" /* inside the sandbox: runtimes/node of this project */
#define MEMORY_OF_A_CPU_MB 1769      /* Lambda's processors come with memory */
#define HELPERS_MAX 4                /* threads of V8's, by default */
#define HEAP_PERCENT 90 /* of the function's memory: the collector hurries before it is used up */

/* The major version of a Node program, 0 when it does not tell. The front may start no programs, so this looks for
 * the name of the release's archive, which every Node carries as process.release.sourceUrl. */
static unsigned read_major(const char *program)
{
    static const char mark[] = "/node-v";
    CLEANUP_FD int fd = open(program, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) < 0 || about.st_size <= 0)
        return 0;
    size_t size = (size_t)about.st_size;
    void *bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return 0;
    unsigned major = 0;
    const char *end = (const char *)bytes + size;
    const char *at = memmem(bytes, size, mark, sizeof mark - 1);
    if (at != NULL)
        for (at += sizeof mark - 1; at < end && *at >= '0' && *at <= '9' && major < 1000; at++)
            major = major * 10 + (unsigned)(*at - '0');
    munmap(bytes, size);
    return major;
}

/* The version of the host's plain "node". Some distributions keep all of it in a library, named by its ABI. */
static unsigned host_major(void)
{
    static const char *const places[] = {"/usr/bin/node", "/usr/lib/x86_64-linux-gnu/libnode.so.108",
        "/usr/lib/x86_64-linux-gnu/libnode.so.109", "/usr/lib/x86_64-linux-gnu/libnode.so.115",
        "/usr/lib/x86_64-linux-gnu/libnode.so.127", "/usr/lib/x86_64-linux-gnu/libnode.so.137"};
    static bool looked;
    static unsigned known;
    for (size_t i = 0; !looked && known == 0 && i < countof(places); i++)
        known = read_major(places[i]);
    looked = true;
    return known;
}

bool front_node_find(struct front_runtime *runtime)
{
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/node-%u", runtime->number);
    if (access(runtime->program, X_OK) == 0)
        return true;
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/node");
    return access(runtime->program, X_OK) == 0 && host_major() == runtime->number;
}

void front_node_put_command(
    const struct front_runtime *runtime, const struct catalog_config *config, struct buffer *argv)
{
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
