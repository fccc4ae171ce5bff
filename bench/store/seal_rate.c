/* How fast one core hashes, seals and opens chunks, in memory: GB/s of plain bytes. The plain bytes are random ones (nothing to
 * compress) or, with a FILE, its contents.
 *
 *   store-seal-rate [FILE]     prints a JSON object */
#include "base/clock.h"
#include "base/fd.h"
#include "store/chunk.h"
#include "store/store.h"

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA_BYTES (32u << 20)
#define CHUNKS (DATA_BYTES / STORE_CHUNK_BYTES)
#define ROUNDS 7

static uint8_t *data;
static struct chunk_tools *tools;
static struct chunk_id id;
static uint8_t *sealed[CHUNKS];
static size_t sealed_len[CHUNKS];
static uint8_t out[STORE_CHUNK_BYTES];

static void must(int result, const struct error *why)
{
    if (result < 0)
        errx(1, "%s", why->text);
}

static void hash(size_t i, enum codec codec)
{
    static const uint8_t salt[SEAL_KEY_BYTES];
    struct error why;
    (void)codec;
    must(chunk_identify(tools, salt, data + i * STORE_CHUNK_BYTES, STORE_CHUNK_BYTES, &id, &why), &why);
}

static void seal(size_t i, enum codec codec)
{
    const uint8_t *bytes;
    struct error why;
    must(chunk_seal(tools, &id, codec, data + i * STORE_CHUNK_BYTES, STORE_CHUNK_BYTES, &bytes,
             &sealed_len[i], &why),
        &why);
    memcpy(sealed[i], bytes, sealed_len[i]); /* as a write to a file would */
}

static void open_again(size_t i, enum codec codec)
{
    struct error why;
    (void)codec;
    must(chunk_open(tools, &id, sealed[i], sealed_len[i], out, STORE_CHUNK_BYTES, &why), &why);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The CPU's time of this thread, so that other work on the machine counts little. */
static void measure(const char *name, void (*step)(size_t, enum codec), enum codec codec, bool last)
{
    double rates[ROUNDS];
    for (int round = -1; round < ROUNDS; round++) {
        uint64_t began = clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
        for (size_t i = 0; i < CHUNKS; i++)
            step(i, codec);
        if (round >= 0)
            rates[round] = DATA_BYTES / (double)(clock_read_ns(CLOCK_THREAD_CPUTIME_ID) - began);
    }
    qsort(rates, ROUNDS, sizeof *rates, compare);
    printf("  \"%s\": [%.3f, %.3f, %.3f]%s\n", name, rates[0], rates[ROUNDS / 2], rates[ROUNDS - 1],
        last ? "" : ",");
}

static void fill(const char *path)
{
    struct error why;
    data = malloc(DATA_BYTES);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        err(1, "%s", path);
    must(fd_read_full(fd, data, DATA_BYTES, &why), &why);
    close(fd);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *seal, *open;
        enum codec codec;
    } ways[] = {{"seal", "open", CODEC_NONE}, {"seal_lz4", "open_lz4", CODEC_LZ4},
        {"seal_zstd", "open_zstd", CODEC_ZSTD}};
    struct error why;
    fill(argc > 1 ? argv[1] : "/dev/urandom");
    tools = chunk_tools_new(true, &why);
    if (tools == NULL)
        errx(1, "%s", why.text);
    for (size_t i = 0; i < CHUNKS; i++)
        sealed[i] = malloc(CHUNK_SEALED_MAX);
    puts("{");
    measure("hash", hash, CODEC_NONE, false);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        measure(ways[i].seal, seal, ways[i].codec, false);
        measure(ways[i].open, open_again, ways[i].codec, i + 1 == sizeof ways / sizeof *ways);
    }
    puts("}");
    return 0;
}
