#include "store/sealing.h"

#include "base/fault.h"
#include "base/fd.h"
#include "base/processors.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum place_state { FREE, WRITER, WAITING, WORKING, DONE };

struct sealing_thread {
    struct sealing *sealing;
    pthread_t thread;
    struct chunk_tools *tools;
};

struct sealing {
    int store_fd, dir_fd;
    uint8_t salt[SEAL_KEY_BYTES];
    pthread_mutex_t lock;
    pthread_cond_t waiting, done; /* a place came into that state */
    struct sealing_place places[SEALING_PLACES];
    size_t next_collect, next_take, next_work; /* counts; modulo SEALING_PLACES they are places */
    bool ending;
    struct error error; /* of the first that failed */
    struct sealing_thread threads[SEALING_THREADS_MAX];
    size_t thread_count;
};

/* ---- in a thread ---- */

/* True when the store has the chunk, whole: what a new snapshot relies on is read and authenticated first. One that is
 * damaged counts as missing, and is replaced. Touched first, so that a collection that comes between leaves it. */
static bool is_stored(
    const struct sealing *s, struct chunk_tools *tools, const struct sealing_place *p, const char *name)
{
    struct error why;
    return folder_touch_chunk(s->store_fd, name, &why) == 0 &&
           chunk_read_file(tools, &p->id, s->store_fd, name, NULL, p->len, &why) == 0 &&
           folder_touch_chunk(s->store_fd, name, &why) == 0;
}

/* *is_new false: another chunk of this snapshot has the same contents. */
static int write_file(
    int dir_fd, const char *name, const uint8_t *data, size_t len, bool *is_new, struct error *err)
{
    CLEANUP_FD int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
    *is_new = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        return 0;
    if (fd < 0)
        return error_system(err, "cannot create it");
    if (fault_fails("publish.chunk_write"))
        return error_system(err, "cannot write");
    if (fd_write_all(fd, data, len, err) < 0)
        return -1;
    /* Only a beginning: the disk works while we go on, and the flush at the commit has less to do. */
    (void)!sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return 0;
}

static int seal_place(
    const struct sealing *s, struct chunk_tools *tools, struct sealing_place *p, struct error *err)
{
    char name[STORE_CHUNK_NAME_BYTES], file[2 * CHUNK_NAME_BYTES + 1];
    const uint8_t *sealed;
    p->is_new = false;
    p->stored_bytes = 0;
    if (chunk_identify(tools, s->salt, p->plain, p->len, &p->id, err) < 0)
        return -1;
    hex_encode(file, p->id.name, CHUNK_NAME_BYTES);
    folder_chunk_name(name, p->id.name);
    if (faccessat(s->dir_fd, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || is_stored(s, tools, p, name))
        return 0;
    if (chunk_seal(tools, &p->id, STORE_CHUNK_CODEC, p->plain, p->len, &sealed, &p->stored_bytes, err) < 0 ||
        write_file(s->dir_fd, file, sealed, p->stored_bytes, &p->is_new, err) < 0)
        return error_prefix(err, "chunk %s", file);
    return 0;
}

static void *thread_body(void *context)
{
    struct sealing_thread *t = context;
    struct sealing *s = t->sealing;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct sealing_place *p = &s->places[s->next_work % SEALING_PLACES];
        if (p->state != WAITING) {
            if (s->ending)
                break;
            pthread_cond_wait(&s->waiting, &s->lock);
            continue;
        }
        p->state = WORKING;
        s->next_work++;
        bool failed = s->error.kind != ERROR_NONE;
        pthread_mutex_unlock(&s->lock);
        struct error err = {0};
        failed = failed || seal_place(s, t->tools, p, &err) < 0;
        pthread_mutex_lock(&s->lock);
        if (failed && s->error.kind == ERROR_NONE)
            s->error = err;
        p->state = DONE;
        pthread_cond_signal(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* ---- in the writer ---- */

static int start_threads(struct sealing *s, struct error *err)
{
    /* Signals are for the process's first thread, which may have handlers. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = 0;
    for (size_t count = processors_usable(SEALING_THREADS_MAX); result == 0 && s->thread_count < count;
         s->thread_count++) {
        struct sealing_thread *t = &s->threads[s->thread_count];
        t->sealing = s;
        t->tools = chunk_tools_new(true, err);
        if (t->tools == NULL) {
            result = -1;
            break;
        }
        errno = pthread_create(&t->thread, NULL, thread_body, t);
        if (errno != 0) {
            result = error_system(err, "cannot start a thread");
            chunk_tools_free(steal_pointer(t->tools));
            break;
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

struct sealing *sealing_new(int store_fd, int dir_fd, const uint8_t salt[SEAL_KEY_BYTES], struct error *err)
{
    struct sealing *s = xcalloc(1, sizeof *s);
    s->store_fd = store_fd;
    s->dir_fd = dir_fd;
    memcpy(s->salt, salt, SEAL_KEY_BYTES);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->waiting, NULL);
    pthread_cond_init(&s->done, NULL);
    for (size_t i = 0; i < SEALING_PLACES; i++)
        s->places[i].plain = xcalloc(1, STORE_CHUNK_BYTES);
    if (start_threads(s, err) == 0)
        return s;
    sealing_free(s);
    return NULL;
}

void sealing_free(struct sealing *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    if (s->error.kind == ERROR_NONE)
        error_set(&s->error, ERROR_CONFLICT,
            "the snapshot was given up"); /* what still waits is not worth sealing */
    pthread_cond_broadcast(&s->waiting);
    pthread_mutex_unlock(&s->lock);
    for (size_t i = 0; i < s->thread_count; i++) {
        pthread_join(s->threads[i].thread, NULL);
        chunk_tools_free(s->threads[i].tools);
    }
    for (size_t i = 0; i < SEALING_PLACES; i++)
        free(s->places[i].plain);
    pthread_cond_destroy(&s->done);
    pthread_cond_destroy(&s->waiting);
    pthread_mutex_destroy(&s->lock);
    OPENSSL_cleanse(s, sizeof *s);
    free(s);
}

/* Under the lock: the oldest place that was given, when it is done; collected and free then. */
static int collect_oldest(struct sealing *s, sealing_collect *collect, void *context, struct error *err)
{
    struct sealing_place *p = &s->places[s->next_collect % SEALING_PLACES];
    while (p->state != DONE)
        pthread_cond_wait(&s->done, &s->lock);
    if (s->error.kind != ERROR_NONE) {
        if (err != NULL)
            *err = s->error;
        return -1;
    }
    collect(context, p);
    p->state = FREE;
    s->next_collect++;
    return 0;
}

struct sealing_place *sealing_take(
    struct sealing *s, sealing_collect *collect, void *context, struct error *err)
{
    struct sealing_place *p = NULL;
    pthread_mutex_lock(&s->lock);
    if (s->next_take - s->next_collect < SEALING_PLACES || collect_oldest(s, collect, context, err) == 0) {
        p = &s->places[s->next_take++ % SEALING_PLACES];
        p->state = WRITER;
        p->len = 0;
    }
    pthread_mutex_unlock(&s->lock);
    return p;
}

void sealing_give(struct sealing *s, struct sealing_place *p)
{
    pthread_mutex_lock(&s->lock);
    p->state = WAITING;
    pthread_cond_signal(&s->waiting);
    pthread_mutex_unlock(&s->lock);
}

int sealing_wait(struct sealing *s, sealing_collect *collect, void *context, struct error *err)
{
    int result = 0;
    pthread_mutex_lock(&s->lock);
    while (result == 0 && s->next_collect < s->next_take)
        result = collect_oldest(s, collect, context, err);
    pthread_mutex_unlock(&s->lock);
    return result;
}
