#include "base/fault.h"

#include "base/bytes.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FAULT_VARIABLE "THAWD_FAULT"
#define FAULT_NAME_BYTES 96
#define FAULT_SITES_MAX 512

bool fault_armed;

static struct {
    char name[FAULT_NAME_BYTES];
    long count;
    int errno_value; /* 0: kill */
    pid_t owner;
    atomic_long *reached; /* shared with all children */
} fault;

/* What the linker gathered from all uses; two copies of one spot (an inlined function) are two entries. */
extern const struct fault_site *const __start_fault_points[] __attribute__((weak));
extern const struct fault_site *const __stop_fault_points[] __attribute__((weak));

static size_t site_count(void)
{
    return (size_t)(__stop_fault_points - __start_fault_points);
}

static const struct fault_site *find_site(const char *name)
{
    for (size_t i = 0; i < site_count(); i++)
        if (strcmp(__start_fault_points[i]->name, name) == 0)
            return __start_fault_points[i];
    return NULL;
}

static int errno_of(const char *name)
{
    static const struct {
        const char *name;
        int value;
    } known[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"EMFILE", EMFILE}, {"ENOMEM", ENOMEM},
        {"EROFS", EROFS}};
    for (size_t i = 0; i < countof(known); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].value;
    return 0;
}

static int parse(const char *text, struct error *err)
{
    CLEANUP_FREE char *copy = xstrdup(text);
    char *rest = copy, *name = strsep(&rest, ":"), *count = strsep(&rest, ":");
    const struct fault_site *site = find_site(name);
    char *end = NULL;
    if (site == NULL || strlen(name) >= sizeof fault.name)
        return error_set(err, ERROR_INVALID, FAULT_VARIABLE ": there is no fault point %s", name);
    memcpy(fault.name, name, strlen(name) + 1);
    fault.count = count == NULL ? 1 : strtol(count, &end, 10);
    if (fault.count < 1 || (end != NULL && *end != '\0'))
        return error_set(err, ERROR_INVALID, FAULT_VARIABLE ": \"%s\" is no count", count);
    if (rest == NULL)
        return 0;
    fault.errno_value = errno_of(rest);
    if (fault.errno_value == 0 || !site->may_fail)
        return error_set(err, ERROR_INVALID, FAULT_VARIABLE ": %s cannot fail with \"%s\"", name, rest);
    return 0;
}

int fault_open(const char **armed, struct error *err)
{
    *armed = getenv(FAULT_VARIABLE);
    if (*armed == NULL)
        return 0;
    if (parse(*armed, err) < 0)
        return -1;
    fault.owner = getpid();
    fault.reached =
        mmap(NULL, sizeof *fault.reached, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fault.reached == MAP_FAILED)
        return error_system(err, "cannot map shared memory");
    fault_armed = true;
    return 0;
}

bool fault_reached(const struct fault_site *site)
{
    if (strcmp(site->name, fault.name) != 0 || atomic_fetch_add(fault.reached, 1) + 1 != fault.count)
        return false;
    dprintf(STDERR_FILENO, "fault point %s reached in process %d\n", site->name, getpid());
    if (fault.errno_value == 0) {
        kill(fault.owner, SIGKILL);
        kill(getpid(), SIGKILL);
    }
    errno = fault.errno_value;
    return true;
}

static int compare_sites(const void *a, const void *b)
{
    const struct fault_site *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

void fault_list(FILE *out)
{
    const struct fault_site *sorted[FAULT_SITES_MAX];
    size_t count = site_count() < FAULT_SITES_MAX ? site_count() : FAULT_SITES_MAX;
    if (count > 0)
        memcpy(sorted, __start_fault_points, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_sites);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || strcmp(sorted[i]->name, sorted[i - 1]->name) != 0)
            fprintf(out, "%s%s\n", sorted[i]->name, sorted[i]->may_fail ? " errno" : "");
}
