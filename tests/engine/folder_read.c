/* conformance: files | a folder of the code that is half read, a folder of /tmp that is read to its end | kept | the listing goes on where it was
 *
 * The names before and after the freeze are together all names, each once. */
#include "help.h"

#include <dirent.h>

static int read_names(DIR *folder, int most, char names[][64])
{
    int count = 0;
    for (struct dirent *e; count < most && (e = readdir(folder));)
        snprintf(names[count++], 64, "%.60s", e->d_name);
    return count;
}

int main(void)
{
    static char names[4096][64], again[4096][64];
    CHECK(test_put("/tmp/one", "", 0600) && test_put("/tmp/two", "", 0600));
    DIR *code = opendir("/var/task"), *tmp = opendir("/tmp");
    CHECK(code && tmp);
    /* glibc reads many names at once: only the next time does it ask the kernel for more. */
    int before = read_names(code, 3, names);
    CHECK(read_names(tmp, 100, again) == 4);
    /* One that is read in small steps, by the kernel's own call. */
    int raw = open("/usr/bin", O_RDONLY | O_DIRECTORY);
    char entries[256];
    ssize_t first = getdents64(raw, entries, sizeof entries);
    off_t at = lseek(raw, 0, SEEK_CUR);
    CHECK(first > 0);

    test_freeze_point();
    int count = before + read_names(code, 4000, names + before);
    int all = read_names(opendir("/var/task"), 4096, again);
    CHECK_EQUAL(count, all);
    for (int i = 0; i < all; i++)
        CHECK(strcmp(names[i], again[i]) == 0);
    CHECK(readdir(tmp) == NULL);
    rewinddir(tmp);
    CHECK_EQUAL(read_names(tmp, 100, again), 4);
    int fresh = open("/usr/bin", O_RDONLY | O_DIRECTORY);
    _Alignas(struct dirent64) char wanted[256] = {0}, got[256] = {0};
    CHECK_EQUAL(lseek(raw, 0, SEEK_CUR), at);
    CHECK_EQUAL(getdents64(fresh, wanted, sizeof wanted), first);
    ssize_t n = getdents64(fresh, wanted, sizeof wanted);
    CHECK(n > 0 && getdents64(raw, got, sizeof got) == n);
    for (ssize_t i = 0; i < n; i += ((const struct dirent64 *)(const void *)(got + i))->d_reclen)
        CHECK(strcmp(((const struct dirent64 *)(const void *)(got + i))->d_name,
                  ((const struct dirent64 *)(const void *)(wanted + i))->d_name) == 0);
    return 0;
}
