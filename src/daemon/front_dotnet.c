/* The runtimes dotnet8 and later: any .NET of the host's below /usr. Runs in the front. */
#include "daemon/front_runtimes.h"
#include "daemon/role.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DOTNET_DIR "/var/runtime/dotnet" /* inside the sandbox: runtimes/dotnet of this project */

/* Where .NET is told to be, by .NET's own configuration, and where packages and people put it. */
static const char *const location_files[] = {
    "/etc/dotnet/install_location_x64", "/etc/dotnet/install_location"};
static const char *const roots[] = {"/usr/lib/dotnet", "/usr/share/dotnet", "/usr/lib64/dotnet",
    "/usr/local/share/dotnet", "/usr/local/lib/dotnet"};

/* Whether this root has the runtime of the wanted major version; then it is written into runtime->program. */
static bool take_root(struct front_runtime *runtime, const char *root)
{
    char pattern[PATH_MAX];
    glob_t found = {0};
    /* Sandboxes show /usr and nothing else of the host's programs. */
    if (strncmp(root, "/usr/", 5) != 0)
        return false;
    snprintf(
        pattern, sizeof pattern, "%s/shared/Microsoft.NETCore.App/%u.*/libcoreclr.so", root, runtime->number);
    bool is_there = glob(pattern, 0, NULL, &found) == 0;
    if (is_there) { /* the last folder's name is its version */
        const char *version =
            found.gl_pathv[found.gl_pathc - 1] + strlen(root) + strlen("/shared/Microsoft.NETCore.App/");
        snprintf(runtime->version, sizeof runtime->version, "%.*s", (int)strcspn(version, "/"), version);
    }
    globfree(&found);
    int length = snprintf(runtime->program, sizeof runtime->program, "%s/dotnet", root);
    return is_there && (size_t)length < sizeof runtime->program && access(runtime->program, X_OK) == 0;
}

static bool take_configured_root(struct front_runtime *runtime, const char *location_file)
{
    char root[PATH_MAX] = "";
    FILE *file = fopen(location_file, "re");
    if (file == NULL)
        return false;
    bool is_read = fgets(root, sizeof root, file) != NULL;
    (void)fclose(file);
    root[strcspn(root, "\r\n")] = '\0';
    return is_read && take_root(runtime, root);
}

bool front_dotnet_find(struct front_runtime *runtime)
{
    char program[PATH_MAX];
    snprintf(program, sizeof program, ROLE_FRONT_RUNTIMES "/dotnet/%u/Thaw.Runtime.dll", runtime->number);
    if (access(program, R_OK) < 0) /* made by runtimes/dotnet/build.sh */
        return false;
    for (size_t i = 0; i < countof(location_files); i++)
        if (take_configured_root(runtime, location_files[i]))
            return true;
    for (size_t i = 0; i < countof(roots); i++)
        if (take_root(runtime, roots[i]))
            return true;
    return false;
}

void front_dotnet_put_command(const struct front_runtime *runtime, const struct catalog_config *config,
    bool fixed_layout, struct buffer *argv)
{
    (void)fixed_layout;
    char number[16];
    (void)config;
    snprintf(number, sizeof number, "%u", runtime->number);
    front_spec_put(argv, "/bin/sh");
    front_spec_put(argv, DOTNET_DIR "/start.sh"); /* looks for the package's files, and obeys the wrapper */
    front_spec_put(argv, runtime->program);
    front_spec_put(argv, number);
}

void front_dotnet_put_variables(
    const struct front_runtime *runtime, const struct catalog_map *set, struct buffer *block)
{
    char root[sizeof runtime->program];
    snprintf(
        root, sizeof root, "%.*s", (int)(strlen(runtime->program) - strlen("/dotnet")), runtime->program);
    front_spec_put_default(block, set, "DOTNET_ROOT", root);
}
