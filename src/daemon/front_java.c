/* The runtimes java11 and later: any JDK or JRE below /usr/lib/jvm. Runs in the front. */
#include "daemon/front_runtimes.h"
#include "daemon/role.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JVMS "/usr/lib/jvm"
#define RELEASE_BYTES 8192
#define JAR "/java/thaw-runtime.jar" /* below the folder of bootstraps: made by runtimes/java/build.sh */
#define HEAP_PERCENT 85 /* of the function's memory; the rest is for classes, code, threads and buffers */
#define FULL_COMPILER_FROM 25
#define MOVING_ARCHIVE_FROM 17 /* the oldest of Java's long-lived versions that move it */

/* The version that a JDK's `release` file states, and the major one of it, 0 when it does not. The JDK itself is never
 * run for this. */
static unsigned read_version(const char *home, char version[FRONT_RUNTIME_VERSION_BYTES])
{
    char path[PATH_MAX], text[RELEASE_BYTES];
    snprintf(path, sizeof path, "%s/release", home);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return 0;
    size_t len = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    static const char key[] = "JAVA_VERSION=\"";
    const char *at = strstr(text, key);
    if (at == NULL)
        return 0;
    at += sizeof key - 1;
    snprintf(version, FRONT_RUNTIME_VERSION_BYTES, "%.*s", (int)strcspn(at, "\"\n"), at);
    return (unsigned)strtoul(version, NULL, 10);
}

bool front_java_find(struct front_runtime *runtime)
{
    glob_t found = {0};
    bool is_there = false;
    if (access(ROLE_FRONT_RUNTIMES JAR, R_OK) < 0)
        return false;
    (void)glob(JVMS "/*", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc && !is_there; i++) {
        const char *home = found.gl_pathv[i];
        if (read_version(home, runtime->version) != runtime->number)
            continue;
        int length = snprintf(runtime->program, sizeof runtime->program, "%s/bin/java", home);
        is_there = (size_t)length < sizeof runtime->program && access(runtime->program, X_OK) == 0;
    }
    globfree(&found);
    return is_there;
}

/* Whether the function's own JAVA_TOOL_OPTIONS speaks of a thing. The command line would win over them, or even
 * contradict them, which no virtual machine starts with. */
static bool is_chosen(const char *options, const char *const *words)
{
    for (; options != NULL && *words != NULL; words++)
        if (strstr(options, *words) != NULL)
            return true;
    return false;
}

static void put_tuning(
    const struct front_runtime *runtime, const struct catalog_config *config, struct buffer *argv)
{
    const char *options = catalog_map_get(&config->environment, "JAVA_TOOL_OPTIONS");
    char heap[64];
    snprintf(heap, sizeof heap, "-XX:MaxHeapSize=%uk", config->memory_mb * 1024 / 100 * HEAP_PERCENT);
    if (!is_chosen(options, (const char *const[]){"-Xmx", "MaxHeapSize", "MaxRAM", NULL}))
        front_spec_put(argv, heap);
    if (!is_chosen(options, (const char *const[]){
                                "SerialGC", "ParallelGC", "G1GC", "ShenandoahGC", "ZGC", "EpsilonGC", NULL}))
        front_spec_put(argv, "-XX:+UseSerialGC");
    front_spec_put(argv, "-XX:+TieredCompilation");
    /* As on Lambda, the first compiler only; from Java 25 on, functions with SnapStart get both. */
    bool full = runtime->number >= FULL_COMPILER_FROM && config->snap_start;
    if (!full && !is_chosen(options, (const char *const[]){"TieredStopAtLevel", "TieredCompilation", NULL}))
        front_spec_put(argv, "-XX:TieredStopAtLevel=1");
    /* Statistics for tools that cannot enter the sandbox: a shared mapping less to make for each clone. */
    if (!is_chosen(options, (const char *const[]){"UsePerfData", NULL}))
        front_spec_put(argv, "-XX:-UsePerfData");
    front_spec_put(argv, "-Xshare:auto");
}

/* The archive of the JDK's own classes is mapped at a random address, for which every pointer in it is rewritten: 12 MB that are the
 * process's own then, in each snapshot and first thaw. At the address that it was made for two thirds of it stay the file's. Where
 * all other addresses are fixed, nothing is won by moving this one. */
static void put_archive_place(
    const struct front_runtime *runtime, const struct catalog_config *config, struct buffer *argv)
{
    const char *options = catalog_map_get(&config->environment, "JAVA_TOOL_OPTIONS");
    if (runtime->number < MOVING_ARCHIVE_FROM ||
        is_chosen(options, (const char *const[]){"ArchiveRelocationMode", "SharedArchiveFile", NULL}))
        return;
    front_spec_put(argv, "-XX:+UnlockDiagnosticVMOptions");
    front_spec_put(argv, "-XX:ArchiveRelocationMode=0");
}

void front_java_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    front_spec_put(argv, runtime->program);
    put_tuning(runtime, config, argv);
    if (fixed_layout)
        put_archive_place(runtime, config, argv);
    front_spec_put(argv, "-Djava.net.preferIPv4Stack=true");
    /* The org.crac library finds its implementation by this, and the bootstrap gives clones their random state. */
    front_spec_put(argv, "-Dorg.crac.Core.Compat=thaw.crac");
    front_spec_put(argv, "--add-opens=java.base/java.lang=ALL-UNNAMED");
    front_spec_put(argv, "--add-opens=java.base/java.net=ALL-UNNAMED");
    front_spec_put(argv, "--add-opens=java.base/java.util=ALL-UNNAMED");
    front_spec_put(argv, "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED");
    if (runtime->number >=
        25) /* before, these generators are in a module that is loaded when it is asked for */
        front_spec_put(argv, "--add-opens=java.base/jdk.internal.random=ALL-UNNAMED");
    front_spec_put(argv, "-cp");
    front_spec_put(argv, "/var/runtime" JAR);
    front_spec_put(argv, "thaw.runtime.Bootstrap");
}

void front_java_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    char home[sizeof runtime->program];
    snprintf(
        home, sizeof home, "%.*s", (int)(strlen(runtime->program) - strlen("/bin/java")), runtime->program);
    front_spec_put_default(block, set, "JAVA_HOME", home);
}
