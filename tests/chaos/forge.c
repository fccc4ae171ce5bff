/* Puts another manifest into a snapshot of a data folder whose daemon is not running, sealed as the store would: what only
 * somebody with the master key can do. The decoder, which is all that is then left to refuse it, is to.
 *
 *   store_forge DATA ID HOW */
#include "base/fd.h"
#include "image/image.h"
#include "store/keyring_rotate.h"
#include "store/recipe.h"
#include "store/sealed_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static void fail(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static void read_plain(int dir, const uint8_t *key, const uint8_t *id, struct buffer *out)
{
    struct sealed_reader r = {.fd = -1};
    struct error err = {0};
    const uint8_t *plain;
    size_t len;
    if (sealed_reader_open(&r, dir, "manifest", key, id, SEAL_MANIFEST, &err) < 0)
        fail("the manifest", &err);
    do {
        if (sealed_reader_next(&r, &plain, &len, &err) < 0)
            fail("the manifest", &err);
        buffer_append(out, plain, len);
    } while (plain != NULL);
    sealed_reader_close(&r);
}

static void write_plain(int dir, const uint8_t *key, const uint8_t *id, const struct buffer *plain)
{
    struct sealed_writer w = {.fd = -1};
    struct error err = {0};
    unlinkat(dir, "manifest", 0);
    if (sealed_writer_open(&w, dir, "manifest", key, id, SEAL_MANIFEST, &err) < 0 ||
        sealed_writer_rest(&w, plain->data, plain->len, &err) < 0)
        fail("the new manifest", &err);
    sealed_writer_close(&w);
}

static void forge(struct image *image, const char *how)
{
    struct image_process *root = &image->processes[0];
    if (strcmp(how, "overlap") == 0)
        root->mappings[1].start = root->mappings[0].start;
    else if (strcmp(how, "call") == 0)
        plan_call(&root->process_plan, SYS_execve, plan_data(0), plan_literal(0), plan_literal(0));
    else if (strcmp(how, "elsewhere") == 0)
        plan_call(&root->template_plan, SYS_munmap, plan_literal(0x200000000000), plan_literal(1ull << 40));
    else if (strcmp(how, "length") == 0)
        plan_do(&root->process_plan, PLAN_WRITE_ALL, plan_literal(1), plan_data(0), plan_literal(1ull << 40));
    else if (strcmp(how, "rights") == 0) {
        struct plan *plan = &root->threads[0].plan;
        uint8_t *sets = image->data.data + plan->ops[plan->count - 1].arg[1];
        memset(sets, 0xff, 8);
    } else if (strcmp(how, "unsettled") == 0)
        root->threads[0].plan.count--;
    else
        exit(2);
}

/* The recipe stays; behind it is the image's manifest as a blob. */
static void forge_plain(struct buffer *plain, const char *how)
{
    struct recipe recipe = {0};
    struct image image = {0};
    struct error err = {0};
    CLEANUP_BUFFER struct buffer manifest = {0}, out = {0};
    struct cursor in = cursor_over(plain->data, plain->len);
    if (recipe_decode(&recipe, &in, &err) < 0)
        fail("the recipe", &err);
    size_t recipe_len = plain->len - in.left;
    if (image_decode(&image, cursor_blob(&in), &err) < 0)
        fail("the image", &err);
    forge(&image, how);
    image_encode(&manifest, &image);
    buffer_append(&out, plain->data, recipe_len);
    buffer_append_blob(&out, manifest.data, (uint32_t)manifest.len);
    plain->len = 0;
    buffer_append(plain, out.data, out.len);
    recipe_free(&recipe);
    image_free(&image);
}

int main(int argc, char **argv)
{
    struct error err = {0};
    struct master_source source;
    uint8_t key[SEAL_KEY_BYTES], id[SEAL_ID_BYTES];
    char path[4096];
    if (argc != 4 || !hex_decode(id, sizeof id, argv[2]))
        return 2;
    CLEANUP_FD int data = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_FD int store = openat(data, "store", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "snapshots/%s", argv[2]);
    CLEANUP_FD int dir = openat(store, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (master_source_parse(&source, NULL, &err) < 0)
        fail("the master key", &err);
    const struct keyring_sources sources = {.current = &source};
    struct keyring *ring = keyring_open(data, store, &sources, false, &err);
    if (ring == NULL || keyring_read_file(ring, dir, "key", KEYRING_SNAPSHOT, argv[2], key, &err) < 0)
        fail("the key", &err);
    CLEANUP_BUFFER struct buffer plain = {0};
    read_plain(dir, key, id, &plain);
    forge_plain(&plain, argv[3]);
    write_plain(dir, key, id, &plain);
    keyring_free(ring);
    master_source_free(&source);
    return 0;
}
