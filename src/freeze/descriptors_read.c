/* What descriptors the processes have, as /proc and copies of them tell; and how they are spoken of. */
#include "freeze/descriptors.h"
#include "freeze/family.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define INFO_MAX (8u << 20) /* fdinfo of an epoll with very many members */

const char *descriptors_info_line(const struct description *o, const char *key, size_t n)
{
    return descriptors_text_line(&o->info, key, n);
}

const char *descriptors_text_line(const struct buffer *info, const char *key, size_t n)
{
    size_t len = strlen(key);
    const char *line = (const char *)info->data;
    while (line && *line) {
        if (strncmp(line, key, len) == 0 && n-- == 0)
            return line + len;
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return NULL;
}

bool descriptors_info_number(const struct description *o, const char *key, int base, uint64_t *value)
{
    const char *text = descriptors_info_line(o, key, 0);
    if (!text)
        return false;
    *value = strtoull(text, NULL, base);
    return true;
}

struct description *descriptors_find_fd(struct descriptors *d, const struct freeze *who, int fd)
{
    for (size_t i = 0; i < d->count; i++)
        for (size_t k = 0; k < d->list[i].holding_count; k++)
            if (d->list[i].holdings[k].fd == fd && d->list[i].holdings[k].who == who)
                return &d->list[i];
    return NULL;
}

int descriptors_shown_fd(const struct description *o)
{
    return o->holding_count > 0 ? o->holdings[0].fd : -1;
}

struct description *descriptors_find_copy(struct descriptors *d, int copy)
{
    struct stat st;
    if (fstat(copy, &st) < 0)
        return NULL;
    for (size_t i = 0; i < d->count; i++)
        if (d->list[i].st.st_dev == st.st_dev && d->list[i].st.st_ino == st.st_ino && d->list[i].copy >= 0 &&
            syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, copy, d->list[i].copy) == 0)
            return &d->list[i];
    return NULL;
}

int descriptors_refuse(
    const struct descriptors *d, const struct description *o, struct error *err, const char *format, ...)
{
    char text[320];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct freeze *who = o->holding_count > 0 ? o->holdings[0].who : d->f;
    return tracee_refuse(&who->tracee, err, "descriptor %d (%s) %s", descriptors_shown_fd(o), o->link, text);
}

void descriptors_note(struct descriptors *d, const struct description *o, const char *format, ...)
{
    (void)d;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const struct holding *first = o->holdings;
    for (size_t i = 0; i < o->holding_count; i++) {
        const struct holding *h = &o->holdings[i];
        struct image_process *process = h->who->process;
        if (i == 0)
            image_note_descriptor(process, h->fd, o->kind->name, "%s", text);
        else if (h->who == first->who)
            image_note_descriptor(process, h->fd, o->kind->name, "the same as %d", first->fd);
        else
            image_note_descriptor(process, h->fd, o->kind->name, "the same as %d of process %d", first->fd,
                first->who->process->pid);
    }
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* The process's descriptor numbers, ascending. */
static int list_numbers(const struct freeze *f, int **numbers, size_t *count, struct error *err)
{
    int fd = openat(f->tracee.proc_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        return error_system(err, "cannot list the descriptors of process %d", f->tracee.pid);
    struct dirent *entry = NULL;
    while (errno = 0, (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] == '.')
            continue;
        *numbers = xrealloc(*numbers, (*count + 1) * sizeof **numbers);
        (*numbers)[(*count)++] = atoi(entry->d_name);
    }
    int result =
        errno == 0 ? 0 : error_system(err, "cannot list all descriptors of process %d", f->tracee.pid);
    closedir(folder);
    if (*count > 0)
        qsort(*numbers, *count, sizeof **numbers, compare_numbers);
    return result;
}

static int read_one(struct freeze *f, int fd, struct description *o, bool *close_on_exec, struct error *err)
{
    char name[32], link[4096];
    uint64_t flags = 0;
    snprintf(name, sizeof name, "fd/%d", fd);
    ssize_t len = readlinkat(f->tracee.proc_fd, name, link, sizeof link - 1);
    if (len < 0)
        return error_system(err, "cannot read what descriptor %d is", fd);
    link[len] = 0;
    o->link = xstrdup(link);
    snprintf(name, sizeof name, "fdinfo/%d", fd);
    if (file_read(f->tracee.proc_fd, name, &o->info, INFO_MAX, err) < 0)
        return -1;
    buffer_append_u8(&o->info, 0);
    if (!descriptors_info_number(o, "flags:", 8, &flags) ||
        !descriptors_info_number(o, "pos:", 10, &o->position))
        return error_set(err, ERROR_SYSTEM, "fdinfo of descriptor %d is not understood", fd);
    *close_on_exec = flags & O_CLOEXEC;
    o->flags = (int)(flags & ~(uint64_t)O_CLOEXEC);
    o->copy = tracee_get_fd(&f->tracee, fd, err);
    if (o->copy < 0)
        return -1;
    if (fstat(o->copy, &o->st) < 0)
        return error_system(err, "cannot look at descriptor %d", fd);
    return 0;
}

void descriptors_free_description(struct description *o)
{
    for (size_t i = 0; i < o->holding_count; i++)
        buffer_free(&o->holdings[i].info);
    free(o->holdings);
    free(o->fds);
    free(o->close_on_exec);
    fd_close(&o->copy);
    free(o->link);
    buffer_free(&o->info);
    free(o->detail);
}

static void add_number(struct description *o, int fd, bool close_on_exec)
{
    o->fds = xrealloc(o->fds, (o->fd_count + 1) * sizeof *o->fds);
    o->close_on_exec = xrealloc(o->close_on_exec, (o->fd_count + 1) * sizeof *o->close_on_exec);
    o->fds[o->fd_count] = fd;
    o->close_on_exec[o->fd_count++] = close_on_exec;
}

/* `info` is taken. */
static void add_holding(
    struct description *o, struct freeze *who, int fd, bool close_on_exec, struct buffer *info)
{
    o->holdings = xrealloc(o->holdings, (o->holding_count + 1) * sizeof *o->holdings);
    o->holdings[o->holding_count++] =
        (struct holding){.who = who, .fd = fd, .close_on_exec = close_on_exec, .info = *info};
    *info = (struct buffer){0};
    if (!who->in_tree)
        add_number(o, fd, close_on_exec);
}

/* The description among those read already that `o` is one more descriptor of; or NULL. */
static struct description *find_same(
    struct descriptors *d, const struct description *o, const struct freeze *who, int fd)
{
    for (size_t i = 0; i < d->count; i++) {
        struct description *other = &d->list[i];
        if (other->st.st_dev == o->st.st_dev && other->st.st_ino == o->st.st_ino &&
            other->flags == o->flags && other->position == o->position && strcmp(other->link, o->link) == 0 &&
            syscall(SYS_kcmp, other->holdings[0].who->tracee.pid, who->tracee.pid, KCMP_FILE,
                other->holdings[0].fd, fd) == 0)
            return other;
    }
    return NULL;
}

static int read_number(struct descriptors *d, struct freeze *who, int fd, struct error *err)
{
    struct description o = {.copy = -1};
    struct buffer info = {0};
    bool close_on_exec = false;
    if (read_one(who, fd, &o, &close_on_exec, err) < 0) {
        descriptors_free_description(&o);
        return -1;
    }
    struct description *same = find_same(d, &o, who, fd);
    if (same) {
        info = o.info;
        o.info = (struct buffer){0};
        descriptors_free_description(&o);
    } else {
        buffer_append(&info, o.info.data, o.info.len);
        same = &d->list[d->count++];
        *same = o;
    }
    add_holding(same, who, fd, close_on_exec, &info);
    if (fd > d->max_fd)
        d->max_fd = fd;
    return 0;
}

static int make_room(struct descriptors *d, size_t numbers, struct error *err)
{
    if (d->capacity != 0)
        return 0;
    /* Room for descriptions without numbers (connections that nobody has accepted yet) beside the others:
     * pointers into the list must stay valid. */
    d->capacity = d->f->in_tree ? IMAGE_DESCRIPTORS_MAX : numbers + 1024;
    d->list = xcalloc(d->capacity, sizeof *d->list);
    return numbers < d->capacity
               ? 0
               : tracee_refuse(&d->f->tracee, err, "it has more than %zu descriptors", d->capacity);
}

static int read_process(struct descriptors *d, struct freeze *who, struct error *err)
{
    CLEANUP_FREE int *numbers = NULL;
    size_t count = 0;
    if (list_numbers(who, &numbers, &count, err) < 0 || make_room(d, count, err) < 0)
        return -1;
    if (d->count + count + 1024 > d->capacity && d->f->in_tree)
        return tracee_refuse(&who->tracee, err, "all processes have more than %zu descriptors", d->capacity);
    for (size_t i = 0; i < count; i++)
        if (read_number(d, who, numbers[i], err) < 0)
            return -1;
    return 0;
}

/* Above all numbers that the processes have, so that none is in the way of another. */
static void number_for_all(struct descriptors *d)
{
    d->base = d->max_fd + 1;
    for (size_t i = 0; i < d->count; i++)
        add_number(&d->list[i], ++d->max_fd, true);
}

int descriptors_read_all(struct descriptors *d, struct error *err)
{
    struct family *family = d->f->family;
    for (size_t i = 0; i < family->live_count; i++)
        if (read_process(d, &family->freezes[i], err) < 0)
            return -1;
    if (d->f->in_tree)
        number_for_all(d);
    if (d->max_fd > descriptors_highest())
        return tracee_refuse(&d->f->tracee, err, "it has a descriptor %d, and none above %d can be frozen",
            d->max_fd, descriptors_highest());
    return 0;
}
