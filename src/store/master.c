/* Parsing a source, and keys in files and in the environment. */
#include "store/master.h"

#include "base/bytes.h"
#include "base/fd.h"
#include "store/master_private.h"
#include "store/seal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEX_CHARS 64
#define BASE64_CHARS 44 /* with one = at the end */
#define NEXT_SUFFIX ".next"

static bool parse_hex(const char *text, uint8_t key[MASTER_KEY_BYTES])
{
    char lower[HEX_CHARS + 1];
    for (int i = 0; i < HEX_CHARS; i++)
        lower[i] = (char)tolower((unsigned char)text[i]);
    lower[HEX_CHARS] = '\0';
    bool parsed = hex_decode(key, MASTER_KEY_BYTES, lower);
    OPENSSL_cleanse(lower, sizeof lower);
    return parsed;
}

static bool parse_base64(const char *text, uint8_t key[MASTER_KEY_BYTES])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t bits = 0;
    size_t have = 0, out = 0;
    for (size_t i = 0; i < BASE64_CHARS - 1; i++) {
        const char *digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);
        if (digit == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        key[out++] = (uint8_t)(bits >> have);
    }
    return (bits & ((1u << have) - 1)) == 0;
}

bool master_parse_key(const char *text, size_t len, uint8_t key[MASTER_KEY_BYTES])
{
    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    bool parsed = false;
    if (len == HEX_CHARS)
        parsed = parse_hex(text, key);
    else if (len == BASE64_CHARS - 1 || (len == BASE64_CHARS && text[len - 1] == '='))
        parsed = parse_base64(text, key);
    if (!parsed)
        OPENSSL_cleanse(key, MASTER_KEY_BYTES);
    return parsed;
}

static uint8_t *secret_page(struct error *err)
{
    void *page = mmap(NULL, MASTER_KEY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        error_system(err, "cannot allocate memory for the key");
        return NULL;
    }
    (void)!mlock(page, MASTER_KEY_BYTES); /* best effort */
    madvise(page, MASTER_KEY_BYTES, MADV_DONTDUMP);
    madvise(page, MASTER_KEY_BYTES, MADV_WIPEONFORK);
    return page;
}

/* The value is overwritten where it stands, too: that is what /proc/PID/environ shows. */
static int take_from_environment(struct master_source *source, struct error *err)
{
    char *value = getenv(source->value);
    if (value == NULL)
        return error_set(err, ERROR_NOT_FOUND,
            "the environment variable %s, which is to hold the master key, is not set", source->value);
    size_t len = strlen(value);
    source->env_key = secret_page(err);
    bool parsed = source->env_key != NULL && master_parse_key(value, len, source->env_key);
    OPENSSL_cleanse(value, len);
    unsetenv(source->value);
    if (source->env_key == NULL)
        return -1;
    if (!parsed)
        return error_set(err, ERROR_INVALID,
            "the environment variable %s holds no master key: that is 64 hex digits, or 32 bytes in base64",
            source->value);
    return 0;
}

int master_source_parse(struct master_source *source, const char *text, struct error *err)
{
    static const char *const names[] = {
        [MASTER_FILE] = "file:", [MASTER_ENV] = "env:", [MASTER_COMMAND] = "command:"};
    *source = (struct master_source){0};
    if (text == NULL)
        text = "file:" MASTER_DEFAULT_FILE;
    for (unsigned kind = MASTER_FILE; kind < countof(names); kind++) {
        size_t len = strlen(names[kind]);
        if (strncmp(text, names[kind], len) != 0 || text[len] == '\0')
            continue;
        source->kind = (enum master_kind)kind;
        source->value = xstrdup(text + len);
        if (kind == MASTER_COMMAND && source->value[0] != '/')
            return error_set(
                err, ERROR_INVALID, "the command for the master key must begin with an absolute path");
        return kind == MASTER_ENV ? take_from_environment(source, err) : 0;
    }
    return error_set(err, ERROR_INVALID,
        "a master key comes from file:PATH, env:NAME or command:PROGRAM, not from \"%s\"", text);
}

const char *master_source_text(const struct master_source *source, char out[256])
{
    static const char *const names[] = {"", "file", "env", "command"};
    snprintf(out, 256, "%s:%s", names[source->kind], source->value);
    return out;
}

void master_source_free(struct master_source *source)
{
    master_source_forget(source);
    free(source->value);
    *source = (struct master_source){0};
}

void master_source_copy(struct master_source *to, const struct master_source *from)
{
    *to = (struct master_source){.kind = from->kind, .value = xstrdup(from->value)};
}

void master_source_forget(struct master_source *source)
{
    if (source->env_key == NULL)
        return;
    OPENSSL_cleanse(source->env_key, MASTER_KEY_BYTES);
    munmap(source->env_key, MASTER_KEY_BYTES);
    source->env_key = NULL;
}

static int create_key(int data_fd, const char *path, uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    if (random_fill(key, MASTER_KEY_BYTES, err) < 0)
        return -1;
    if (file_write_atomic(data_fd, path, key, MASTER_KEY_BYTES, 0600, err) < 0)
        return error_prefix(err, "cannot make the key file");
    return 0;
}

static int check_key_file(const char *path, const struct stat *about, struct error *err)
{
    if (!S_ISREG(about->st_mode))
        return error_set(err, ERROR_INVALID, "%s is not a regular file", path);
    if (about->st_uid != geteuid())
        return error_set(err, ERROR_INVALID,
            "%s belongs to user %u, but must belong to user %u, who runs this", path, about->st_uid,
            geteuid());
    if ((about->st_mode & 07177) != 0)
        return error_set(err, ERROR_INVALID, "%s has mode %04o, but nobody else may read it: chmod 0600 it",
            path, about->st_mode & 07777);
    if (about->st_size != MASTER_KEY_BYTES)
        return error_set(err, ERROR_INVALID, "%s is %ld bytes long, but a key has %d", path,
            (long)about->st_size, MASTER_KEY_BYTES);
    return 0;
}

static int load_file(
    int data_fd, const char *path, bool may_create, uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    CLEANUP_FD int fd = openat(data_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT && may_create)
        return create_key(data_fd, path, key, err);
    if (fd < 0 && errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND,
            "%s is missing, but there are snapshots that were sealed with it: put it back, or remove the "
            "folder "
            "of the snapshots",
            path);
    if (fd < 0)
        return error_system(err, "cannot open %s", path);
    struct stat about;
    if (fstat(fd, &about) < 0)
        return error_system(err, "cannot look at %s", path);
    if (check_key_file(path, &about, err) < 0)
        return -1;
    return fd_read_full(fd, key, MASTER_KEY_BYTES, err);
}

int master_source_load(const struct master_source *source, int data_fd, bool may_create,
    uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    switch (source->kind) {
    case MASTER_FILE:
        return load_file(data_fd, source->value, may_create, key, err);
    case MASTER_ENV:
        if (source->env_key == NULL)
            return error_set(err, ERROR_INTERNAL, "the key of the environment is forgotten already");
        memcpy(key, source->env_key, MASTER_KEY_BYTES);
        return 0;
    case MASTER_COMMAND:
        return master_run_command(source->value, key, err);
    }
    return error_set(err, ERROR_INTERNAL, "a master key of no kind");
}

int master_next_write(
    const struct master_source *source, int data_fd, const uint8_t key[MASTER_KEY_BYTES], struct error *err)
{
    CLEANUP_FREE char *next = xasprintf("%s" NEXT_SUFFIX, source->value);
    unlinkat(data_fd, next, 0); /* its mode may be another */
    return file_write_atomic(data_fd, next, key, MASTER_KEY_BYTES, 0600, err);
}

int master_next_commit(const struct master_source *source, int data_fd, bool *renamed, struct error *err)
{
    CLEANUP_FREE char *next = xasprintf("%s" NEXT_SUFFIX, source->value);
    CLEANUP_FREE char *folder = xstrdup(source->value);
    char *slash = strrchr(folder, '/');
    *renamed = false;
    if (slash != NULL)
        slash[slash == folder] = '\0';
    CLEANUP_FD int folder_fd =
        openat(data_fd, slash != NULL ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0)
        return error_system(err, "cannot open the folder of %s", source->value);
    if (renameat(data_fd, next, data_fd, source->value) < 0)
        return error_system(err, "cannot put %s in its place", next);
    *renamed = true;
    return fsync(folder_fd) < 0 ? error_system(err, "cannot make %s durable", source->value) : 0;
}

void master_next_remove(const struct master_source *source, int data_fd)
{
    CLEANUP_FREE char *next = xasprintf("%s" NEXT_SUFFIX, source->value);
    if (source->kind == MASTER_FILE)
        unlinkat(data_fd, next, 0);
}
