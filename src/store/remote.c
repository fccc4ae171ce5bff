/* A publish, a deletion, and a trust domain's salt, as the origin sees them. */
#include "store/remote.h"
#include "store/burst.h"
#include "store/keyring_private.h"

#include "base/fault.h"
#include "base/fd.h"
#include "store/origin_mark.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DOMAIN_TRIES 3

void store_use_origin(struct store *s, int control_fd, const char *address)
{
    s->origin_control_fd = control_fd;
    origin_mark_id(s->origin_id, address);
    s->origin_times = (struct store_origin_times){ORIGIN_GRACE_S, BURST_WAIT_S};
}

void store_origin_times(const struct store *s, struct store_origin_times *times)
{
    *times = s->origin_times;
}

void store_set_origin_times(struct store *s, const struct store_origin_times *times)
{
    s->origin_times = *times;
}

int store_origin_control(const struct store *s)
{
    return s->origin_control_fd;
}

/* A child that inherited its parent's connection makes its own. */
struct origin *store_origin(struct store *s)
{
    if (s->origin_control_fd < 0)
        return NULL;
    if (s->origin == NULL || s->origin_pid != getpid()) {
        s->origin = origin_new(s->origin_control_fd);
        s->origin_pid = getpid();
    }
    return s->origin;
}

/* ---- chunks ---- */

/* One chunk on its way: is it there? else it is stored. */
struct sending {
    struct push *push;
    char name[STORE_CHUNK_NAME_BYTES];
    int fd;
    uint64_t bytes;
    size_t chunk; /* its index in the recipe */
    bool is_storing;
};

struct push {
    struct store *store;
    struct origin *origin;
    uint64_t now_s;
    uint64_t *had_s;    /* of each chunk of the recipe: when the origin had it; 0: not asked */
    bool asks_for_all;  /* also for those with a mark */
    struct error error; /* the first one */
};

static void note_failure(struct push *p, const struct error *err)
{
    if (p->error.kind == ERROR_NONE)
        p->error = *err;
}

static void end_sending(struct sending *s)
{
    fd_close(&s->fd);
    free(s);
}

static void begin(struct sending *s, enum origin_verb verb)
{
    struct error err = {0};
    const struct origin_request request = {.verb = verb, .name = s->name, .fd = s->fd, .context = s};
    s->is_storing = verb == ORIGIN_STORE;
    if (origin_begin(s->push->origin, &request, &err) == 0)
        return;
    note_failure(s->push, &err);
    end_sending(s);
}

static void confirm(struct sending *s, uint64_t at_s)
{
    s->push->had_s[s->chunk] = at_s;
    end_sending(s);
}

static bool is_recent(const struct push *p, uint64_t at_s)
{
    return at_s + ORIGIN_CONFIRMED_S > p->now_s;
}

static void handle_reply(struct push *p, const struct origin_reply *reply)
{
    struct sending *s = reply->context;
    bool is_there = reply->error.kind == ERROR_NONE;
    if (!is_there && reply->error.kind != ERROR_NOT_FOUND)
        note_failure(p, &reply->error);
    if (p->error.kind != ERROR_NONE)
        end_sending(s);
    else if (s->is_storing)
        confirm(s, p->now_s);
    else if (is_there && reply->bytes == s->bytes && is_recent(p, reply->modified_s))
        confirm(s, reply->modified_s);
    else
        begin(s, ORIGIN_STORE);
}

/* Until at most `most` are under way. */
static int take_replies(struct push *p, size_t most, struct error *err)
{
    while (origin_in_flight(p->origin) > most) {
        struct origin_reply reply;
        if (origin_wait(p->origin, &reply, err) < 0)
            return -1;
        handle_reply(p, &reply);
    }
    return 0;
}

/* NULL: the origin is known to have it (or there is an error in `p`). */
static struct sending *open_chunk(struct push *p, const struct recipe_chunk *chunk)
{
    struct stat about;
    struct error err;
    struct sending *s = xcalloc(1, sizeof *s);
    s->push = p;
    folder_chunk_name(s->name, chunk->id.name);
    s->fd = openat(p->store->store_fd, s->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (s->fd < 0 || fstat(s->fd, &about) < 0) {
        error_system(&err, "cannot open %s", s->name);
        note_failure(p, &err);
    } else if (p->asks_for_all || !is_recent(p, origin_mark_get(s->fd, p->store->origin_id))) {
        s->bytes = (uint64_t)about.st_size;
        return s;
    }
    end_sending(s);
    return NULL;
}

static int push_all(struct push *p, const struct recipe *recipe, struct error *err)
{
    for (size_t i = 0; i < recipe->count && p->error.kind == ERROR_NONE; i++) {
        struct sending *s = open_chunk(p, &recipe->chunks[i]);
        if (s == NULL)
            continue;
        s->chunk = i;
        if (take_replies(p, ORIGIN_IN_FLIGHT_MAX - 1, err) < 0)
            return -1;
        begin(s, ORIGIN_LOOK);
    }
    if (take_replies(p, 0, err) < 0)
        return -1;
    if (p->error.kind == ERROR_NONE)
        return 0;
    *err = p->error;
    return -1;
}

/* For the next publishes. */
static void set_marks(const struct push *p, const struct recipe *recipe)
{
    struct origin_mark mark;
    memcpy(mark.origin_id, p->store->origin_id, sizeof mark.origin_id);
    for (size_t i = 0; i < recipe->count; i++) {
        char name[STORE_CHUNK_NAME_BYTES];
        if (p->had_s[i] == 0)
            continue;
        folder_chunk_name(name, recipe->chunks[i].id.name);
        CLEANUP_FD int fd = openat(p->store->store_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        mark.at_s = p->had_s[i];
        if (fd >= 0)
            origin_mark_set(fd, &mark);
    }
}

/* Beside collections there: what they may have removed meanwhile is stored again. */
static int push_watched(struct push *p, const struct recipe *recipe, struct error *err)
{
    CLEANUP_BURST_WATCH struct burst_watch watch = {0};
    bool any = false;
    if (burst_watch_begin(&watch, p->origin, err) < 0 || push_all(p, recipe, err) < 0 ||
        burst_watch_end(&watch, p->origin, p->store->origin_times.burst_wait_s, &any, err) < 0)
        return -1;
    p->asks_for_all = true;
    if (any && push_all(p, recipe, err) < 0)
        return -1;
    set_marks(p, recipe);
    return 0;
}

int remote_push_chunks(struct store *store, const struct recipe *recipe, struct error *err)
{
    struct push p = {.store = store, .origin = store_origin(store), .now_s = (uint64_t)time(NULL)};
    if (p.origin == NULL)
        return 0;
    fault_point("origin.publish_chunks");
    CLEANUP_FREE uint64_t *had_s = xcalloc(recipe->count + 1, sizeof *had_s);
    p.had_s = had_s;
    if (push_watched(&p, recipe, err) == 0)
        return 0;
    return error_prefix(err, "cannot store it in the origin");
}

/* ---- a snapshot's own files ---- */

static int push_file(struct store *s, const char *id, int dir_fd, const char *file, struct error *err)
{
    char name[ORIGIN_NAME_MAX + 1];
    snprintf(name, sizeof name, "snapshots/%s/%s", id, file);
    CLEANUP_FD int fd = openat(dir_fd, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_system(err, "cannot open %s", name);
    return origin_store(store_origin(s), name, 0, fd, err);
}

int remote_push_snapshot(struct store *s, const char *id, int dir_fd, struct error *err)
{
    struct error ignored;
    if (store_origin(s) == NULL)
        return 0;
    if (remote_note_publish(s, id, err) < 0)
        return -1;
    fault_point("origin.publish_key");
    if (push_file(s, id, dir_fd, "key", err) == 0 && push_file(s, id, dir_fd, "manifest", err) == 0) {
        fault_point("origin.publish_stored");
        return 0;
    }
    /* Where it cannot be reached now, the next deletion or the next start makes up for it. */
    if (remote_note_removal(s, id, &ignored) == 0 && err->kind != ERROR_BUSY)
        (void)!remote_remove_snapshot(s, id, &ignored);
    return error_prefix(err, "cannot store it in the origin");
}

int remote_push_hot(struct store *s, const char *id, int dir_fd, struct error *err)
{
    struct error ignored;
    char name[ORIGIN_NAME_MAX + 1];
    if (store_origin(s) == NULL)
        return 0;
    int result = push_file(s, id, dir_fd, "hot", err);
    if (result == 0 && store_has(s, id))
        return 0;
    /* Also when the snapshot was deleted meanwhile. */
    snprintf(name, sizeof name, "snapshots/%s/hot", id);
    (void)!origin_remove(store_origin(s), name, &ignored);
    return result;
}

/* ---- domains ---- */

static int read_small(int fd, uint8_t out[KEYRING_FILE_BYTES + 1])
{
    ssize_t n = pread(fd, out, KEYRING_FILE_BYTES + 1, 0);
    return n == KEYRING_FILE_BYTES ? 0 : -1;
}

/* Put the origin's in the place of ours, unless they are the same. One that our master key did not wrap is not taken: the salt
 * is then read from it, refused, and the publish says why. */
static int adopt(struct store *s, const char *domain, int fd, struct error *err)
{
    uint8_t theirs[KEYRING_FILE_BYTES + 1], ours[KEYRING_FILE_BYTES + 1];
    if (read_small(fd, theirs) < 0)
        return error_set(err, ERROR_CORRUPT, "the origin's file of trust domain %s is damaged", domain);
    CLEANUP_FD int mine = openat(s->domains_fd, domain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (mine >= 0 && read_small(mine, ours) == 0 && memcmp(ours, theirs, KEYRING_FILE_BYTES) == 0)
        return 0;
    if (keyring_is_foreign(s->keyring, theirs, KEYRING_FILE_BYTES))
        return remote_refuse_foreign(s, theirs, err);
    if (keyring_adopt_domain(s->keyring, s->domains_fd, domain, theirs, err) < 0)
        return error_prefix(err, "the origin's file of trust domain %s", domain);
    return 0;
}

/* Ours, where the origin has none. ERROR_CONFLICT: now it has one. */
static int offer(struct store *s, const char *domain, const char *name, struct error *err)
{
    uint8_t salt[SEAL_KEY_BYTES];
    if (keyring_domain_salt(s->keyring, s->domains_fd, domain, salt, err) < 0)
        return -1;
    memset(salt, 0, sizeof salt);
    CLEANUP_FD int fd = openat(s->domains_fd, domain, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return error_system(err, "cannot open the file of trust domain %s", domain);
    return origin_store(store_origin(s), name, ORIGIN_IF_ABSENT, fd, err);
}

int remote_share_domain(struct store *s, const char *domain, struct error *err)
{
    char name[ORIGIN_NAME_MAX + 1];
    struct origin *o = store_origin(s);
    if (o == NULL)
        return 0;
    if (keyring_check_domain(domain, err) < 0)
        return -1;
    snprintf(name, sizeof name, "domains/%s", domain);
    for (int i = 0; i < DOMAIN_TRIES; i++) {
        struct error why = {0};
        CLEANUP_FD int fd = -1;
        if (origin_fetch(o, name, 0, &fd, &why) == 0)
            return adopt(s, domain, fd, err);
        if (why.kind == ERROR_NOT_FOUND && offer(s, domain, name, &why) == 0)
            continue; /* and see whose it is: where the store knows no "if absent", somebody else's may have come after ours */
        *err = why;
        if (why.kind != ERROR_CONFLICT)
            return error_prefix(err, "trust domain %s", domain);
    }
    return error_set(err, ERROR_BUSY, "trust domain %s comes and goes in the origin", domain);
}
