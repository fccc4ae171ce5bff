/* The `dotnet` program of a .NET that came without one: `dotnet exec ASSEMBLY ...` by the hostfxr beside it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef int (*host_main)(
    int argc, const char **argv, const char *host_path, const char *dotnet_root, const char *app_path);

int main(int argc, char **argv)
{
    char self[PATH_MAX] = "", root[PATH_MAX] = "", path[PATH_MAX + 64];
    glob_t found = {0};
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 1;
    snprintf(root, sizeof root, "%.*s", (int)(strrchr(self, '/') - self), self);
    snprintf(path, sizeof path, "%s/host/fxr/*/libhostfxr.so", root);
    if (glob(path, 0, NULL, &found) != 0) {
        fprintf(stderr, "%s is not there\n", path);
        return 1;
    }
    void *library = dlopen(found.gl_pathv[found.gl_pathc - 1], RTLD_LAZY);
    host_main run = library == NULL ? NULL : (host_main)dlsym(library, "hostfxr_main_startupinfo");
    if (run == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    snprintf(path, sizeof path, "%s.dll", self); /* is not there: so it is the assembly of the command line */
    return run(argc, (const char **)argv, self, root, path);
}
