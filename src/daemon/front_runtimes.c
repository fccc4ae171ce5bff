/* The table of managed runtimes. A family is one row of FAMILIES and the functions that the row names. */
#include "daemon/front_runtimes.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Inside the sandbox: the folder runtimes/ of this project. */
#define RUNTIME_DIR "/var/runtime"

struct front_runtime_family {
    const char *prefix, *suffix; /* of its runtimes' names, around the number */
    unsigned first, last;        /* the numbers that are looked for */
    bool (*find)(struct front_runtime *runtime);
    void (*put_command)(const struct front_runtime *runtime, const struct catalog_config *config,
        bool fixed_layout, struct buffer *argv);
    void (*put_variables)(
        const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block);
    bool wraps_itself; /* its command obeys AWS_LAMBDA_EXEC_WRAPPER when it knows what is to be started */
};

/* Whether the program that was written into runtime->program is there. */
static bool is_there(const struct front_runtime *runtime)
{
    return access(runtime->program, X_OK) == 0;
}

void front_runtimes_scan(const char *program, struct bytes mark, char *version, size_t size)
{
    CLEANUP_FD int fd = open(program, O_RDONLY | O_CLOEXEC);
    struct stat about;
    version[0] = '\0';
    if (fd < 0 || fstat(fd, &about) < 0 || about.st_size <= 0)
        return;
    size_t file_size = (size_t)about.st_size, len = 0;
    void *bytes = mmap(NULL, file_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return;
    const char *end = (const char *)bytes + file_size;
    const char *at = memmem(bytes, file_size, mark.data, mark.len);
    for (at = at ? at + mark.len : end; at < end && len + 1 < size; at++) {
        if (!(*at >= '0' && *at <= '9') && !(*at == '.' && at + 1 < end && at[1] >= '0' && at[1] <= '9'))
            break;
        version[len++] = *at;
    }
    version[len] = '\0';
    munmap(bytes, file_size);
}

/* What comes before a library's minor version, as in libruby-3.1.so.3.1.2, which its shorter name leads to. */
static void read_linked_version(const char *path, struct front_runtime *runtime)
{
    char target[128];
    ssize_t len = readlink(path, target, sizeof target - 1);
    target[len > 0 ? len : 0] = '\0';
    const char *mark = strstr(target, ".so.");
    snprintf(runtime->version, sizeof runtime->version, "%.31s", mark ? mark + strlen(".so.") : "");
}

/* ---- python3.N ---- */

static bool find_python(struct front_runtime *runtime)
{
    char patch[16];
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/python3.%u", runtime->number);
    if (!is_there(runtime))
        return false;
    char mark[16] = ""; /* a text that begins with its version: what comes before it is the end of another */
    int len = snprintf(mark + 1, sizeof mark - 1, "3.%u.", runtime->number);
    front_runtimes_scan(
        runtime->program, (struct bytes){(const uint8_t *)mark, (size_t)len + 1}, patch, sizeof patch);
    if (patch[0])
        snprintf(runtime->version, sizeof runtime->version, "%s%s", mark + 1, patch);
    return true;
}

static void put_python_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    (void)fixed_layout;
    (void)config;
    front_spec_put(argv, runtime->program);
    front_spec_put(argv, RUNTIME_DIR "/python/bootstrap.py");
}

static void put_python_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    (void)runtime;
    front_spec_put_default(block, set, "PYTHONPATH", RUNTIME_DIR "/python");
    front_spec_put_default(block, set, "LC_CTYPE", "C.UTF-8");
}

/* ---- ruby3.N ---- */

static bool find_ruby(struct front_runtime *runtime)
{
    char library[96];
    snprintf(library, sizeof library, "/usr/lib/x86_64-linux-gnu/libruby-3.%u.so.3.%u", runtime->number,
        runtime->number);
    read_linked_version(library, runtime);
    snprintf(runtime->program, sizeof runtime->program, "/usr/bin/ruby3.%u", runtime->number);
    return is_there(runtime);
}

static void put_ruby_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    (void)fixed_layout;
    (void)config;
    front_spec_put(argv, runtime->program);
    front_spec_put(argv, RUNTIME_DIR "/ruby/bootstrap.rb");
}

static void put_ruby_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    char path[128];
    snprintf(path, sizeof path, "/var/task/vendor/bundle/ruby/3.%u.0:/opt/ruby/gems/3.%u.0", runtime->number,
        runtime->number);
    front_spec_put_default(block, set, "GEM_PATH", path);
    front_spec_put_default(block, set, "RUBYLIB", "/var/task:" RUNTIME_DIR "/ruby:/opt/ruby/lib");
}

/* ---- the table ---- */

static const struct front_runtime_family FAMILIES[] = {
    {"python3.", "", 8, 30, find_python, put_python_command, put_python_variables},
    {"nodejs", ".x", 18, 40, front_node_find, front_node_put_command, front_node_put_variables},
    {"ruby3.", "", 0, 30, find_ruby, put_ruby_command, put_ruby_variables},
    {"java", "", 11, 40, front_java_find, front_java_put_command, front_java_put_variables},
    {"dotnet", "", 8, 30, front_dotnet_find, front_dotnet_put_command, front_dotnet_put_variables, true},
};

size_t front_runtimes_find(struct front_runtime *found, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < countof(FAMILIES); i++) {
        const struct front_runtime_family *family = &FAMILIES[i];
        for (unsigned number = family->first; number <= family->last && count < max; number++) {
            struct front_runtime *runtime = &found[count];
            runtime->family = family;
            runtime->number = number;
            runtime->version[0] = '\0';
            snprintf(runtime->name, sizeof runtime->name, "%s%u%s", family->prefix, number, family->suffix);
            if (family->find(runtime))
                count++;
        }
    }
    return count;
}

const struct front_runtime *front_runtimes_get(
    const struct front_runtime *found, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(found[i].name, name) == 0)
            return &found[i];
    return NULL;
}

void front_runtimes_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    /* The user's own program starts the runtime in our place, with our command line as its arguments. */
    if (!runtime->family->wraps_itself && catalog_map_get(&config->environment, "AWS_LAMBDA_EXEC_WRAPPER")) {
        front_spec_put(argv, "/bin/sh");
        front_spec_put(argv, RUNTIME_DIR "/exec-wrapper.sh");
    }
    runtime->family->put_command(runtime, config, fixed_layout, argv);
}

void front_runtimes_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    runtime->family->put_variables(runtime, set, block);
}
