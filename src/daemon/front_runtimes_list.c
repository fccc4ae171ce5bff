/* What this host has of the managed runtimes, and what it would need for the rest: for people, who ask with
 * `thaw runtimes`. Runs in the front. */
#include "daemon/front_runtimes.h"

#include <string.h>

/* Lambda's own runtimes of today, and where a Debian or an Ubuntu finds the interpreter. A host may offer others. */
static const struct {
    const char *runtime, *install;
} KNOWN[] = {
    {"python3.9", "python3.9 (Debian 11; on Ubuntu from ppa:deadsnakes/ppa)"},
    {"python3.10", "python3.10 (Ubuntu 22.04, others from ppa:deadsnakes/ppa)"},
    {"python3.11", "python3.11 (Debian 12; on Ubuntu from ppa:deadsnakes/ppa)"},
    {"python3.12", "python3.12 (Ubuntu 24.04, others from ppa:deadsnakes/ppa)"},
    {"python3.13", "python3.13 (Debian 13, Ubuntu 25.04, others from ppa:deadsnakes/ppa)"},
    {"python3.14", "python3.14 (on Ubuntu from ppa:deadsnakes/ppa)"},
    {"nodejs18.x", "nodejs (Debian 12, Ubuntu 24.04), or as /usr/bin/node-18"},
    {"nodejs20.x", "nodejs (Debian 13, or deb.nodesource.com/node_20.x), or as /usr/bin/node-20"},
    {"nodejs22.x", "nodejs (deb.nodesource.com/node_22.x), or as /usr/bin/node-22"},
    {"nodejs24.x", "nodejs (deb.nodesource.com/node_24.x), or as /usr/bin/node-24"},
    {"ruby3.2", "ruby3.2 (Ubuntu 24.04)"},
    {"ruby3.3", "ruby3.3 (Debian 13, Ubuntu 25.04)"},
    {"ruby3.4", "Ruby 3.4 as /usr/bin/ruby3.4"},
    {"java11", "openjdk-11-jdk-headless (Debian 11, Ubuntu)"},
    {"java17", "openjdk-17-jdk-headless (Debian 12, Ubuntu)"},
    {"java21", "openjdk-21-jdk-headless (Debian 13, Ubuntu), or temurin-21-jdk (packages.adoptium.net)"},
    {"java25", "openjdk-25-jdk-headless (Ubuntu 25.10), or temurin-25-jdk (packages.adoptium.net)"},
    {"dotnet8", "dotnet-sdk-8.0 (Ubuntu; on Debian from packages.microsoft.com), then build thaw again"},
    {"dotnet10", "dotnet-sdk-10.0 (Ubuntu; on Debian from packages.microsoft.com), then build thaw again"},
};

static const char *const PROVIDED[] = {"provided.al2023", "provided.al2", "provided"};

/* What a function loads to register its hooks. */
static const struct {
    const char *prefix, *hooks;
} HOOKS[] = {
    {"python", "snapshot_restore_py"},
    {"nodejs", "thaw-snapstart"},
    {"ruby", "thaw_snapstart"},
    {"java", "org.crac"},
    {"dotnet", "Amazon.Lambda.Core.SnapshotRestore"},
    {"provided", "GET restore/next"},
};

static const char *hooks_of(const char *name)
{
    for (size_t i = 0; i < countof(HOOKS); i++)
        if (strncmp(name, HOOKS[i].prefix, strlen(HOOKS[i].prefix)) == 0)
            return HOOKS[i].hooks;
    return "";
}

static json_t *describe(
    const char *name, bool offered, const char *program, const char *version, const char *install)
{
    return json_pack("{s:s, s:b, s:s?, s:s?, s:s, s:s?}", "runtime", name, "offered", (int)offered, "program",
        program, "version", version[0] ? version : NULL, "hooks", hooks_of(name), "install", install);
}

json_t *front_runtimes_describe(const struct front_runtime *found, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, describe(found[i].name, true, found[i].program, found[i].version, NULL));
    for (size_t i = 0; i < countof(PROVIDED); i++)
        json_array_append_new(list, describe(PROVIDED[i], true, NULL, "", NULL));
    for (size_t i = 0; i < countof(KNOWN); i++)
        if (!front_runtimes_get(found, count, KNOWN[i].runtime))
            json_array_append_new(list, describe(KNOWN[i].runtime, false, NULL, "", KNOWN[i].install));
    return list;
}
