/* A snapshot's stamp: what it was frozen on and relies on. The catalog keeps it with the version; when it is no
 * longer what there is here, the version is frozen anew. Runs in the front.
 *
 * The stamp only finds work for the background: whether a snapshot may still be thawed is decided by the warden,
 * from what the snapshot itself says, whenever a template is built. */
#include "daemon/front_private.h"
#include "image/image.h"
#include "store/chunk.h"
#include "store/recipe.h"
#include "store/sealed_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_BYTES_MAX 4400 /* two numbers and a path */

struct stamp_file {
    unsigned long long bytes;
    long long modified_ns;
    const char *path;
};

int front_stamp_open(struct front *front, struct error *err)
{
    struct image here = {0};
    if (image_stamp_machine(&here, err) < 0)
        return -1;
    snprintf(front->kernel, sizeof front->kernel, "%s", here.kernel_release);
    hex_encode(front->machine, here.cpu_features, sizeof here.cpu_features);
    snprintf(front->format, sizeof front->format, "%u.%d.%d.%d", image_format_version(), SEALED_VERSION,
        RECIPE_VERSION, CHUNK_VERSION);
    return 0;
}

/* ---- files ---- */

static bool has_prefix(const char *path, const char *prefix)
{
    return strncmp(path, prefix, strlen(prefix)) == 0;
}

/* A file that sandboxes show, by the name that it has for us. False: it is none, or has none. */
static bool look_at(struct front *front, const struct catalog_function *function, const char *path,
    unsigned long long *bytes, long long *modified_ns)
{
    struct stat about;
    CLEANUP_FREE char *here = NULL;
    int folder = AT_FDCWD;
    if (has_prefix(path, "/var/task/")) {
        folder = front->options->data_fd;
        here = xasprintf("code/%s/%s", function->code.id, path + strlen("/var/task/"));
    } else if (has_prefix(path, "/var/runtime/")) {
        here = xasprintf("%s/%s", front->options->runtimes_dir, path + strlen("/var/runtime/"));
    } else if (has_prefix(path, "/usr/")) {
        here = xstrdup(path);
    }
    if (!here || fstatat(folder, here, &about, 0) < 0)
        return false;
    *bytes = (unsigned long long)about.st_size;
    *modified_ns = about.st_mtim.tv_sec * 1000000000ll + about.st_mtim.tv_nsec;
    return true;
}

/* The next line of *at, in `line`; false at the end. A line that makes no sense is passed over. */
static bool next_file(const char **at, char line[LINE_BYTES_MAX], struct stamp_file *file)
{
    while (**at) {
        size_t len = strcspn(*at, "\n");
        const char *begin = *at;
        *at += len + (begin[len] == '\n');
        if (len >= LINE_BYTES_MAX)
            continue;
        memcpy(line, begin, len);
        line[len] = '\0';
        char *rest;
        file->bytes = strtoull(line, &rest, 10);
        file->modified_ns = strtoll(rest, &rest, 10);
        file->path = rest + 1;
        if (rest != line && rest[0] == ' ' && rest[1] == '/')
            return true;
    }
    return false;
}

/* Its name when a file is another one than the snapshot was frozen with. */
static char *changed_file(struct front *front, const struct catalog_function *function, const char *files)
{
    char line[LINE_BYTES_MAX];
    struct stamp_file file;
    while (next_file(&files, line, &file)) {
        unsigned long long bytes;
        long long modified_ns;
        if (!look_at(front, function, file.path, &bytes, &modified_ns))
            return xasprintf("%s, which it uses, is gone", file.path);
        if (bytes != file.bytes || modified_ns != file.modified_ns)
            return xasprintf("%s, which it uses, was changed", file.path);
    }
    return NULL;
}

char *front_stamp_differs(
    struct front *front, const struct catalog_function *function, const struct catalog_snapshot *snapshot)
{
    if (strcmp(snapshot->id, function->snapshot_id) != 0)
        return xstrdup("it is not known what it was frozen on");
    if (strcmp(snapshot->format, front->format) != 0)
        return xasprintf("its format is %s, and now %s", snapshot->format, front->format);
    if (strcmp(snapshot->kernel, front->kernel) != 0)
        return xasprintf("it was frozen on kernel %s, and this is %s", snapshot->kernel, front->kernel);
    if (strcmp(snapshot->machine, front->machine) != 0)
        return xstrdup("it was frozen on another processor or kernel build than this one");
    return changed_file(front, function, snapshot->files);
}

/* ---- a new stamp ---- */

/* Files that we see otherwise than the process did, or not at all, are the warden's business alone. */
static void put_seen(
    struct front *front, const struct catalog_function *function, struct bytes told, struct buffer *files)
{
    char line[LINE_BYTES_MAX];
    struct stamp_file file;
    CLEANUP_FREE char *text = xstrndup((const char *)told.data, told.len);
    for (const char *at = text; next_file(&at, line, &file);) {
        unsigned long long bytes;
        long long modified_ns;
        if (look_at(front, function, file.path, &bytes, &modified_ns) && bytes == file.bytes &&
            modified_ns == file.modified_ns)
            buffer_printf(files, "%llu %lld %s\n", bytes, modified_ns, file.path);
    }
}

/* The runtime's program and its bootstrap: what is read rather than mapped is in no list of the process's. */
static void put_command(struct front *front, const struct catalog_function *function, struct buffer *files)
{
    CLEANUP_BUFFER struct buffer argv = {0};
    const struct front_runtime *runtime =
        front_runtimes_get(front->runtimes, front->runtime_count, function->config.runtime);
    if (!runtime)
        return;
    front_runtimes_put_command(runtime, &function->config, false, &argv);
    for (size_t at = 0; at < argv.len; at += strlen((const char *)argv.data + at) + 1) {
        const char *argument = (const char *)argv.data + at;
        unsigned long long bytes;
        long long modified_ns;
        if (argument[0] == '/' && look_at(front, function, argument, &bytes, &modified_ns))
            buffer_printf(files, "%llu %lld %s\n", bytes, modified_ns, argument);
    }
}

struct catalog_snapshot front_stamp_make(struct front_env *env, const struct wire_env_frozen *message)
{
    struct front *front = env->front;
    CLEANUP_BUFFER struct buffer files = {0};
    put_command(front, env->version->function, &files);
    put_seen(front, env->version->function, message->files, &files);
    struct catalog_snapshot snapshot = {
        .kernel = xstrdup(front->kernel),
        .machine = xstrdup(front->machine),
        .format = xstrdup(front->format),
        .files = files.len > 0 ? xstrndup((const char *)files.data, files.len) : NULL,
        .memory_bytes = message->memory_bytes,
        .stored_bytes = message->stored_bytes,
        .frozen_ms = front_now_ms(front),
    };
    memcpy(snapshot.id, env->snapshot_id, sizeof snapshot.id);
    return snapshot;
}
