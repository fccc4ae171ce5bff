/* Removing snapshots from the origin, and the notes that see to it:
 *
 *   DATA/store/removals/ID       a snapshot that is to go from the origin; the note goes after it
 *   DATA/store/removals/ID.new   one that a publish has begun to put there; at the next start it is known whether it became a
 *                                version: if so the note goes, else it becomes one of the first kind */
#include "base/fd.h"
#include "store/remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REMOVALS "removals"
#define PUBLISH_SUFFIX ".new"
#define NOTE_BYTES (sizeof REMOVALS + 1 + STORE_ID_HEX + sizeof PUBLISH_SUFFIX)

static int begin_removals(struct origin *o, const char *id, struct error *err)
{
    /* Without its key it is unreadable, whatever is left; without its manifest it is not there. */
    static const char *const files[] = {"key", "manifest", "hot"};
    for (size_t i = 0; i < countof(files); i++) {
        char name[ORIGIN_NAME_MAX + 1];
        snprintf(name, sizeof name, "snapshots/%s/%s", id, files[i]);
        const struct origin_request request = {.verb = ORIGIN_REMOVE, .name = name, .fd = -1};
        if (origin_begin(o, &request, err) < 0)
            return -1;
    }
    return 0;
}

int remote_remove_snapshot(struct store *s, const char *id, struct error *err)
{
    char note[NOTE_BYTES];
    struct origin *o = store_origin(s);
    struct error failure = {0};
    if (o == NULL)
        return 0;
    if (begin_removals(o, id, err) < 0)
        return -1;
    while (origin_in_flight(o) > 0) {
        struct origin_reply reply;
        if (origin_wait(o, &reply, err) < 0)
            return -1;
        if (reply.error.kind != ERROR_NONE)
            failure = reply.error;
    }
    if (failure.kind == ERROR_NONE) {
        snprintf(note, sizeof note, REMOVALS "/%s", id);
        unlinkat(s->store_fd, note, 0);
        return 0;
    }
    if (err != NULL)
        *err = failure;
    return error_prefix(err, "snapshot %s is deleted here, but not yet in the origin", id);
}

static int write_note(struct store *s, const char *id, const char *suffix, struct error *err)
{
    char note[NOTE_BYTES];
    bool is_new = mkdirat(s->store_fd, REMOVALS, 0700) == 0;
    if ((!is_new && errno != EEXIST) || (is_new && fsync(s->store_fd) < 0))
        return error_system(err, "cannot make the folder " REMOVALS);
    snprintf(note, sizeof note, REMOVALS "/%s%s", id, suffix);
    CLEANUP_FD int fd = openat(s->store_fd, note, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    CLEANUP_FD int folder = openat(s->store_fd, REMOVALS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || folder < 0 || fsync(folder) < 0)
        return error_system(err, "cannot note that snapshot %s goes to or from the origin", id);
    return 0;
}

int remote_note_publish(struct store *s, const char *id, struct error *err)
{
    return write_note(s, id, PUBLISH_SUFFIX, err);
}

int remote_note_removal(struct store *s, const char *id, struct error *err)
{
    char note[NOTE_BYTES];
    uint8_t raw[SEAL_ID_BYTES];
    if (store_parse_id(id, raw, err) < 0 || write_note(s, id, "", err) < 0)
        return -1;
    snprintf(note, sizeof note, REMOVALS "/%s" PUBLISH_SUFFIX, id);
    unlinkat(s->store_fd, note, 0);
    return 0;
}

struct settling {
    struct store *store;
    store_is_kept *is_kept;
    void *context;
    struct error error;
    bool failed;
};

static bool settle(void *context, int folder_fd, const char *name)
{
    struct settling *n = context;
    char id[STORE_ID_HEX + 1];
    uint8_t raw[SEAL_ID_BYTES];
    snprintf(id, sizeof id, "%s", name);
    if (!hex_decode(raw, sizeof raw, id) || strcmp(name + STORE_ID_HEX, PUBLISH_SUFFIX) != 0)
        return true;
    if (n->is_kept(n->context, id))
        unlinkat(folder_fd, name, 0);
    else
        n->failed = remote_note_removal(n->store, id, &n->error) < 0;
    return !n->failed;
}

static int list_notes(struct store *s, folder_each *each, void *context, struct error *err)
{
    CLEANUP_FD int fd = openat(s->store_fd, REMOVALS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return error_system(err, "cannot open the folder " REMOVALS);
    return folder_list(fd, each, context, err);
}

int store_settle_publishes(struct store *s, store_is_kept *is_kept, void *context, struct error *err)
{
    struct settling n = {.store = s, .is_kept = is_kept, .context = context};
    if (list_notes(s, settle, &n, err) < 0)
        return -1;
    if (n.failed)
        *err = n.error;
    return n.failed ? -1 : 0;
}

struct removals {
    struct store *store;
    struct error error;
    bool failed;
};

static bool finish_removal(void *context, int folder_fd, const char *name)
{
    struct removals *r = context;
    uint8_t raw[SEAL_ID_BYTES];
    (void)folder_fd;
    if (hex_decode(raw, sizeof raw, name))
        r->failed = remote_remove_snapshot(r->store, name, &r->error) < 0;
    return !r->failed;
}

int store_finish_removals(struct store *s, struct error *err)
{
    struct removals r = {.store = s};
    if (list_notes(s, finish_removal, &r, err) < 0)
        return -1;
    if (r.failed)
        *err = r.error;
    return r.failed ? -1 : 0;
}
