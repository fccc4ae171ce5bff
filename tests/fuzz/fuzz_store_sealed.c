/* fuzz: src/base src/store -lcrypto -lzstd -llz4
 * A sealed file, and the hot set in one. The first byte chooses: a file as it is; a good file with the bytes that are not zero
 * changed; or a hot set that is sealed rightly around segments as they come (u16 length, bytes, and so on). */
#include "store/private.h"
#include "store/sealed_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAM_BYTES 65536
static const uint8_t KEY[SEAL_KEY_BYTES] = "a data key of thirty-two bytes, ok",
                     ID[SEAL_ID_BYTES] = "a snapshot's id";
static const uint8_t PLAIN[] = "what is in the good file";
static int folder = -1;
static uint8_t good[256];
static size_t good_len;

static void clean_up(void)
{
    unlinkat(folder, "hot", 0);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
    char name[256] = "";
    if (readlink(path, name, sizeof name - 1) > 0)
        rmdir(name);
}

static void write_segments(const struct bytes *segments, size_t count)
{
    struct sealed_writer w = {.fd = -1};
    struct error err;
    unlinkat(folder, "hot", 0);
    if (sealed_writer_open(&w, folder, "hot", KEY, ID, SEAL_HOT, &err) < 0)
        abort();
    for (size_t i = 0; i < count; i++)
        if (sealed_writer_segment(&w, segments[i].data, segments[i].len, i == count - 1, &err) < 0)
            abort();
    sealed_writer_close(&w);
}

static void write_file(const uint8_t *data, size_t len)
{
    int fd = openat(folder, "hot", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, len) != (ssize_t)len)
        abort();
    close(fd);
}

static void set_up(void)
{
    char path[] = "/dev/shm/fuzz-sealed-XXXXXX";
    if (mkdtemp(path) == NULL)
        abort();
    folder = open(path, O_RDONLY | O_DIRECTORY);
    atexit(clean_up);
    write_segments(&(struct bytes){PLAIN, sizeof PLAIN}, 1);
    int fd = openat(folder, "hot", O_RDONLY);
    good_len = (size_t)read(fd, good, sizeof good);
    close(fd);
}

static void expect_named(const struct error *err)
{
    if ((err->kind != ERROR_CORRUPT && err->kind != ERROR_UNSUPPORTED) || err->text[0] == '\0')
        abort();
}

/* Whether the file is the good one; anything else must be refused. */
static bool is_good(void)
{
    struct sealed_reader r = {.fd = -1};
    struct error err = {0};
    const uint8_t *plain = NULL;
    size_t len = 0;
    bool read = sealed_reader_open(&r, folder, "hot", KEY, ID, SEAL_HOT, &err) == 0 &&
                sealed_reader_next(&r, &plain, &len, &err) == 0;
    if (!read)
        expect_named(&err);
    else if (len != sizeof PLAIN || memcmp(plain, PLAIN, len) != 0)
        abort();
    sealed_reader_close(&r);
    return read;
}

static void read_hot_set(void)
{
    struct store_reader reader = {.dir_fd = folder, .recipe = {.stream_bytes = STREAM_BYTES}};
    struct store_hot_piece piece;
    struct error err = {0};
    uint64_t total = 0;
    memcpy(reader.data_key, KEY, sizeof KEY);
    memcpy(reader.raw_id, ID, sizeof ID);
    struct store_hot *hot = store_hot_open(&reader, &err);
    if (hot == NULL) {
        expect_named(&err);
        return;
    }
    int result;
    while ((result = store_hot_next(hot, &piece, &err)) == 0 && piece.run_count > 0) {
        uint64_t sum = 0;
        volatile uint8_t touched = 0;
        for (size_t i = 0; i < piece.run_count; i++) {
            if (piece.runs[i].offset + piece.runs[i].bytes > STREAM_BYTES)
                abort();
            sum += piece.runs[i].bytes;
        }
        if (sum != piece.bytes)
            abort();
        for (size_t i = 0; i < piece.bytes; i++)
            touched ^= piece.pages[i];
        total += sum;
    }
    if (result < 0)
        expect_named(&err);
    store_hot_close(hot);
}

#define SEGMENTS_MAX 8

static void try_hot_set(const uint8_t *data, size_t size)
{
    struct bytes segments[SEGMENTS_MAX];
    size_t count = 0;
    struct cursor c = cursor_over(data, size);
    while (count < SEGMENTS_MAX && c.left >= 2) {
        size_t len = cursor_u16(&c);
        segments[count++] = cursor_bytes(&c, len < c.left ? len : c.left);
    }
    if (count == 0)
        return;
    write_segments(segments, count);
    read_hot_set();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (folder < 0)
        set_up();
    if (size == 0)
        return 0;
    if (data[0] == 0) {
        write_file(data + 1, size - 1);
        (void)is_good();
    } else if (data[0] == 1) {
        uint8_t file[sizeof good];
        bool changed = false;
        memcpy(file, good, good_len);
        for (size_t i = 0; i < good_len && i + 1 < size; i++) {
            file[i] ^= data[i + 1];
            changed |= data[i + 1] != 0;
        }
        write_file(file, good_len);
        if (is_good() == changed)
            abort();
    } else {
        try_hot_set(data + 1, size - 1);
    }
    return 0;
}
