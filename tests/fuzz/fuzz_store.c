/* fuzz: src/base src/store -lcrypto -llz4 -lzstd
 * What the store reads, of which the first byte tells: as it comes from the disk (a chunk, a sealed file), and as it would come from
 * a writer of ours that was wrong (a recipe, a piece of a hot set, compressed bytes), which only the tag keeps from being anything. */
#include "base/fd.h"
#include "store/chunk.h"
#include "store/hot.h"
#include "store/recipe.h"
#include "store/sealed_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t KEY[SEAL_KEY_BYTES] = {1}, ID[SEAL_ID_BYTES] = {2};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void check_error(const struct error *err)
{
    must(err->kind != ERROR_NONE && err->text[0] != 0);
}

static void try_recipe(const uint8_t *data, size_t size)
{
    struct recipe r = {0};
    struct error err = {0};
    struct cursor c = cursor_over(data, size);
    if (recipe_decode(&r, &c, &err) < 0) {
        check_error(&err);
    } else {
        CLEANUP_BUFFER struct buffer again = {0};
        uint64_t offset = 0;
        for (size_t i = 0; i < r.count; i++) {
            must(r.chunks[i].offset == offset && r.chunks[i].bytes > 0 &&
                 r.chunks[i].bytes <= CHUNK_PLAIN_MAX);
            offset += r.chunks[i].bytes;
        }
        must(offset == r.stream_bytes);
        recipe_encode(&again, &r);
        must(again.len == size - c.left && memcmp(again.data + 12, data + 12, again.len - 12) == 0);
    }
    recipe_free(&r);
}

static void try_hot(const uint8_t *data, size_t size)
{
    static struct hot_decoder decoder;
    struct store_hot_piece piece;
    struct error err = {0};
    const uint64_t stream_bytes = 1u << 20;
    if (decoder.runs == NULL)
        must(hot_decoder_init(&decoder, &err) == 0);
    if (hot_decode_piece(&decoder, data, size, stream_bytes, &piece, &err) < 0) {
        check_error(&err);
        return;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < piece.run_count; i++) {
        must(piece.runs[i].offset + piece.runs[i].bytes <= stream_bytes);
        sum += piece.runs[i].bytes;
    }
    must(sum == piece.bytes && piece.bytes <= STORE_HOT_PIECE_BYTES);
    volatile uint8_t last = piece.pages[piece.bytes - 1];
    (void)last;
}

static void try_chunk(const uint8_t *data, size_t size)
{
    static struct chunk_tools *tools;
    static uint8_t plain[4096];
    const struct chunk_id id = {{1}, {2}};
    struct error err = {0};
    if (tools == NULL)
        tools = chunk_tools_new(false, &err);
    must(chunk_open(tools, &id, data, size, plain, sizeof plain, &err) < 0); /* nobody guesses a tag */
    check_error(&err);
}

static void try_codec(const uint8_t *data, size_t size)
{
    static struct codecs codecs;
    static uint8_t plain[65536];
    struct error err = {0};
    if (codecs.zstd_decompressor == NULL)
        must(codecs_init(&codecs, false, &err) == 0);
    for (int codec = 0; codec < CODEC_COUNT; codec++)
        if (codec_decompress(
                &codecs, codec, data, size, plain, size > 1 ? data[0] * 256u + data[1] : 1, &err) < 0)
            check_error(&err);
}

static char folder_path[] = "/dev/shm/thaw-fuzz-XXXXXX";
static int folder = -1;

static void remove_folder(void)
{
    unlinkat(folder, "file", 0);
    rmdir(folder_path);
}

static void try_sealed_file(const uint8_t *data, size_t size)
{
    struct error err = {0};
    if (folder < 0) {
        must(mkdtemp(folder_path) != NULL);
        folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        atexit(remove_folder);
    }
    CLEANUP_FD int fd = openat(folder, "file", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    must(fd >= 0 && fd_write_all(fd, data, size, &err) == 0);
    struct sealed_reader r = {.fd = -1};
    const uint8_t *plain = data;
    size_t len;
    int result = sealed_reader_open(&r, folder, "file", KEY, ID, SEAL_HOT, &err);
    while (result == 0 && plain != NULL)
        result = sealed_reader_next(&r, &plain, &len, &err);
    must(result < 0);
    check_error(&err);
    sealed_reader_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const targets[])(const uint8_t *, size_t) = {
        try_recipe, try_hot, try_chunk, try_codec, try_sealed_file};
    if (size > 0)
        targets[data[0] % countof(targets)](data + 1, size - 1);
    return 0;
}
