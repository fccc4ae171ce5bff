/* What chunk sizes and codecs are worth, measured on snapshots that a thawd has made: how many chunks there are, what versions
 * share, what compression saves and costs. It reads each snapshot's page stream with the addresses that its manifest tells, and cuts, hashes,
 * compresses and seals it in memory, on one core.
 *
 *   store-chunks DATA [LABEL...]     DATA: the data folder of a thawd that has ended (a copy is fine)
 *
 * Snapshots come in the order in which they were published; labels name them. Equal labels are versions of one function. */
#include "base/clock.h"
#include "base/fd.h"
#include "image/image.h"
#include "store/chunk.h"
#include "store/store.h"

#include <err.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SNAPSHOTS_MAX 256

struct piece {
    uint64_t space, address, offset, len;
};

struct snapshot {
    char id[STORE_ID_HEX + 1];
    const char *label;
    int64_t made_ns;
    uint8_t *stream;
    uint64_t bytes;
    struct piece *pieces;
    size_t piece_count;
};

static struct snapshot snapshots[SNAPSHOTS_MAX];
static size_t snapshot_count;

/* ---- reading ---- */

static void add_piece(struct snapshot *s, uint64_t space, uint64_t address, uint64_t len, uint64_t *offset)
{
    if (*offset + len > s->bytes)
        errx(1, "%s: the plans read more than there is", s->id);
    s->pieces = xrealloc(s->pieces, (s->piece_count + 1) * sizeof *s->pieces);
    s->pieces[s->piece_count++] = (struct piece){space, address, *offset, len};
    *offset += len;
}

/* The stream is in the order of the plans' reading ops; behind it is the bulk. */
static void find_pieces(struct snapshot *s, const struct image *image)
{
    uint64_t offset = 0;
    for (uint32_t p = 0; p < image->process_count; p++) {
        const struct plan *plan = &image->processes[p].template_plan;
        for (uint32_t i = 0; i < plan->count; i++)
            if (plan->ops[i].kind == PLAN_READ_PAGES || plan->ops[i].kind == PLAN_LAZY_PAGES)
                add_piece(s, p, plan->ops[i].arg[0], plan->ops[i].arg[1], &offset);
    }
    if (offset < s->bytes)
        add_piece(s, STORE_BULK_SPACE, 0, s->bytes - offset, &offset);
}

static void load(struct store *store, struct snapshot *s)
{
    CLEANUP_BUFFER struct buffer manifest = {0};
    struct image image = {0};
    struct error err = {0};
    struct store_reader *reader = store_reader_open(store, s->id, &manifest, &err);
    if (reader == NULL || image_decode(&image, (struct bytes){manifest.data, manifest.len}, &err) < 0)
        errx(1, "%s", err.text);
    s->bytes = store_reader_stream_bytes(reader);
    s->stream = mmap(NULL, s->bytes + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->stream == MAP_FAILED)
        errx(1, "%s: there is no memory for %lu bytes", s->id, s->bytes);
    for (size_t i = 0; i < store_reader_chunk_count(reader); i++) {
        struct store_chunk_place place = store_reader_chunk(reader, i);
        if (store_reader_read_chunk(reader, i, s->stream + place.offset, &err) < 0)
            errx(1, "%s", err.text);
    }
    find_pieces(s, &image);
    image_free(&image);
    store_reader_close(reader);
}

static int compare_made(const void *a, const void *b)
{
    const struct snapshot *one = a, *two = b;
    return one->made_ns < two->made_ns ? -1 : one->made_ns > two->made_ns;
}

static void find_snapshots(struct store *store, int data, char **labels)
{
    struct error err = {0};
    struct store_entry *entries = NULL;
    if (store_list(store, &entries, &snapshot_count, &err) < 0)
        errx(1, "%s", err.text);
    if (snapshot_count > SNAPSHOTS_MAX)
        errx(1, "there are more than %d snapshots", SNAPSHOTS_MAX);
    for (size_t i = 0; i < snapshot_count; i++) {
        char path[128];
        struct stat about;
        snprintf(path, sizeof path, "store/snapshots/%s/key", entries[i].id);
        if (fstatat(data, path, &about, 0) < 0)
            errx(1, "cannot look at %s", path);
        memcpy(snapshots[i].id, entries[i].id, sizeof snapshots[i].id);
        snapshots[i].made_ns = about.st_mtim.tv_sec * 1000000000l + about.st_mtim.tv_nsec;
    }
    free(entries);
    qsort(snapshots, snapshot_count, sizeof *snapshots, compare_made);
    for (size_t i = 0; i < snapshot_count; i++)
        snapshots[i].label = *labels != NULL ? *labels++ : snapshots[i].id;
}

/* ---- a set of digests ---- */

struct digests {
    uint8_t (*slots)[SHA256_DIGEST_LENGTH];
    size_t capacity, count;
};

/* True when it was not in it. An all-zero slot is free. */
static bool digests_add(struct digests *set, const uint8_t digest[SHA256_DIGEST_LENGTH])
{
    static const uint8_t none[SHA256_DIGEST_LENGTH];
    if (2 * (set->count + 1) > set->capacity) {
        struct digests larger = {.capacity = set->capacity > 0 ? 2 * set->capacity : 1024};
        larger.slots = xcalloc(larger.capacity, sizeof *larger.slots);
        for (size_t i = 0; i < set->capacity; i++)
            if (memcmp(set->slots[i], none, sizeof none) != 0)
                digests_add(&larger, set->slots[i]);
        free(set->slots);
        *set = larger;
    }
    uint64_t hash;
    memcpy(&hash, digest, sizeof hash);
    for (size_t at = hash % set->capacity;; at = (at + 1) % set->capacity) {
        if (memcmp(set->slots[at], digest, sizeof none) == 0)
            return false;
        if (memcmp(set->slots[at], none, sizeof none) != 0)
            continue;
        memcpy(set->slots[at], digest, sizeof none);
        set->count++;
        return true;
    }
}

/* ---- cutting and measuring ---- */

struct totals {
    uint64_t bytes, chunks, new_bytes, new_chunks;
    uint64_t again_bytes, again_new_bytes; /* of versions after a function's first */
    uint64_t again_chunks, again_new_chunks;
    uint64_t packed[CODEC_COUNT], pack_ns[CODEC_COUNT], unpack_ns[CODEC_COUNT];
    uint64_t hash_ns, seal_ns, open_ns;
};

struct measurement {
    size_t chunk_bytes;
    struct digests seen;
    struct codecs codecs;
    struct chunk_tools *tools;
    uint8_t *packed, *plain;
    struct totals all;
};

static uint64_t since(uint64_t begin_ns)
{
    return clock_monotonic_ns() - begin_ns;
}

static void measure_codecs(struct measurement *m, const uint8_t *data, size_t len)
{
    for (int codec = 0; codec < CODEC_COUNT; codec++) {
        struct error err = {0};
        uint64_t begin_ns = clock_monotonic_ns();
        size_t packed = codec_compress(&m->codecs, codec, data, len, m->packed);
        m->all.pack_ns[codec] += since(begin_ns);
        m->all.packed[codec] += packed > 0 ? packed : len;
        begin_ns = clock_monotonic_ns();
        if (codec_decompress(&m->codecs, packed > 0 ? (enum codec)codec : CODEC_NONE,
                packed > 0 ? m->packed : data, packed > 0 ? packed : len, m->plain, len, &err) < 0 ||
            memcmp(m->plain, data, len) != 0)
            errx(1, "a chunk does not come back: %s", err.text);
        m->all.unpack_ns[codec] += since(begin_ns);
    }
}

static void measure_seal(struct measurement *m, const uint8_t *data, size_t len)
{
    static const uint8_t salt[SEAL_KEY_BYTES];
    struct chunk_id id;
    struct error err = {0};
    const uint8_t *sealed;
    size_t sealed_len;
    uint64_t begin_ns = clock_monotonic_ns();
    if (chunk_identify(m->tools, salt, data, len, &id, &err) < 0)
        errx(1, "%s", err.text);
    m->all.hash_ns += since(begin_ns);
    begin_ns = clock_monotonic_ns();
    if (chunk_seal(m->tools, &id, CODEC_NONE, data, len, &sealed, &sealed_len, &err) < 0)
        errx(1, "%s", err.text);
    m->all.seal_ns += since(begin_ns);
    begin_ns = clock_monotonic_ns();
    if (chunk_open(m->tools, &id, sealed, sealed_len, m->plain, len, &err) < 0)
        errx(1, "%s", err.text);
    m->all.open_ns += since(begin_ns);
}

static void take_chunk(struct measurement *m, const uint8_t *data, size_t len, bool again)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(data, len, digest);
    bool is_new = digests_add(&m->seen, digest);
    m->all.bytes += len;
    m->all.chunks++;
    m->all.again_bytes += again ? len : 0;
    m->all.again_chunks += again;
    if (!is_new)
        return;
    m->all.new_bytes += len;
    m->all.new_chunks++;
    m->all.again_new_bytes += again ? len : 0;
    m->all.again_new_chunks += again;
    measure_codecs(m, data, len);
    measure_seal(m, data, len);
}

/* As the store's writer does. */
static void cut(struct measurement *m, const struct snapshot *s, bool again)
{
    uint64_t begin = 0, end = 0, space = 0, block = 0, next = 0;
    for (size_t i = 0; i < s->piece_count; i++) {
        struct piece p = s->pieces[i];
        while (p.len > 0) {
            uint64_t room = m->chunk_bytes - p.address % m->chunk_bytes, n = p.len < room ? p.len : room;
            if (end > begin &&
                (space != p.space || block != p.address / m->chunk_bytes || p.address < next)) {
                take_chunk(m, s->stream + begin, end - begin, again);
                begin = end;
            }
            space = p.space;
            block = p.address / m->chunk_bytes;
            next = p.address + n;
            end += n;
            p.address += n;
            p.len -= n;
        }
    }
    if (end > begin)
        take_chunk(m, s->stream + begin, end - begin, again);
}

static bool is_again(size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (strcmp(snapshots[i].label, snapshots[at].label) == 0)
            return true;
    return false;
}

static double per_s(uint64_t bytes, uint64_t ns)
{
    return ns > 0 ? (double)bytes * 1e3 / (double)ns : 0; /* MB/s */
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

static struct totals measure(size_t chunk_bytes, bool each)
{
    struct error err = {0};
    struct measurement m = {.chunk_bytes = chunk_bytes};
    m.tools = chunk_tools_new(true, &err);
    if (m.tools == NULL || codecs_init(&m.codecs, true, &err) < 0)
        errx(1, "%s", err.text);
    m.packed = xcalloc(1, CHUNK_PLAIN_MAX);
    m.plain = xcalloc(1, CHUNK_PLAIN_MAX);
    for (size_t i = 0; i < snapshot_count; i++) {
        struct totals before = m.all;
        cut(&m, &snapshots[i], is_again(i));
        const struct totals *t = &m.all;
        uint64_t bytes = t->bytes - before.bytes, chunks = t->chunks - before.chunks;
        uint64_t fresh = t->new_bytes - before.new_bytes, new_chunks = t->new_chunks - before.new_chunks;
        if (each)
            printf("| %s%s | %.1f | %lu | %.1f | %.1f | %.1f | %.1f |\n", snapshots[i].label,
                is_again(i) ? ", again" : "", (double)bytes / 1e6, chunks,
                percent(chunks - new_chunks, chunks), percent(bytes - fresh, bytes),
                (double)(t->packed[CODEC_LZ4] - before.packed[CODEC_LZ4]) / 1e6,
                (double)(t->packed[CODEC_ZSTD] - before.packed[CODEC_ZSTD]) / 1e6);
    }
    codecs_free(&m.codecs);
    chunk_tools_free(m.tools);
    free(m.packed);
    free(m.plain);
    free(m.seen.slots);
    return m.all;
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {64, 128, 256, 512};
    struct error err = {0};
    if (argc < 2)
        errx(2, "usage: store-chunks DATA [LABEL...]");
    CLEANUP_FD int data = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct store *store = data < 0 ? NULL : store_open(data, &err);
    if (store == NULL)
        errx(1, "%s: %s", argv[1], data < 0 ? "cannot open it" : err.text);
    find_snapshots(store, data, argv + 2);
    for (size_t i = 0; i < snapshot_count; i++)
        load(store, &snapshots[i]);
    store_close(store);

    struct totals totals[countof(sizes)];
    printf("| snapshot, chunks of %u KiB | MB | chunks | chunks shared %% | bytes shared %% | new: lz4 MB | "
           "zstd MB |\n"
           "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        STORE_CHUNK_BYTES / 1024);
    for (size_t i = 0; i < countof(sizes); i++)
        totals[i] = measure(sizes[i] * 1024, sizes[i] * 1024 == STORE_CHUNK_BYTES);
    printf("\n| chunk KiB | chunks | mean KiB | again: chunks shared %% | bytes shared %% | new MB | lz4 MB "
           "| zstd MB |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < countof(sizes); i++) {
        const struct totals *t = &totals[i];
        printf("| %zu | %lu | %.0f | %.1f | %.1f | %.1f | %.1f | %.1f |\n", sizes[i], t->chunks,
            (double)t->bytes / (double)t->chunks / 1024,
            percent(t->again_chunks - t->again_new_chunks, t->again_chunks),
            percent(t->again_bytes - t->again_new_bytes, t->again_bytes), (double)t->new_bytes / 1e6,
            (double)t->packed[CODEC_LZ4] / 1e6, (double)t->packed[CODEC_ZSTD] / 1e6);
    }
    printf("\n| one core, MB/s | hash | seal | open | lz4: pack | unpack | zstd: pack | unpack |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < countof(sizes); i++) {
        const struct totals *t = &totals[i];
        uint64_t n = t->new_bytes;
        printf("| %zu KiB | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", sizes[i],
            per_s(n, t->hash_ns), per_s(n, t->seal_ns), per_s(n, t->open_ns), per_s(n, t->pack_ns[CODEC_LZ4]),
            per_s(n, t->unpack_ns[CODEC_LZ4]), per_s(n, t->pack_ns[CODEC_ZSTD]),
            per_s(n, t->unpack_ns[CODEC_ZSTD]));
    }
    return 0;
}
