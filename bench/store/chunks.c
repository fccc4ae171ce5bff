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
#include <lz4.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

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

#define PAGE 4096

/* What could be used to compress; the first is nothing. */
struct candidate {
    const char *name;
    bool zstd;
    int level; /* of lz4: the acceleration */
};
static const struct candidate candidates[] = {{"none", false, 0}, {"lz4", false, 1}, {"lz4 x4", false, 4},
    {"zstd -5", true, -5}, {"zstd -3", true, -3}, {"zstd -1", true, -1}, {"zstd 1", true, 1},
    {"zstd 3", true, 3}};
#define CANDIDATES countof(candidates)

struct totals {
    uint64_t bytes, chunks, new_bytes, new_chunks;
    uint64_t packed[CANDIDATES], pack_ns[CANDIDATES], unpack_ns[CANDIDATES];
    uint64_t hash_ns, seal_ns, open_ns;
};

struct measurement {
    size_t chunk_bytes;
    struct digests seen;
    ZSTD_CCtx *zstd_pack;
    ZSTD_DCtx *zstd_unpack;
    struct chunk_tools *tools;
    uint8_t *packed, *plain;
    struct totals all;
};

/* Processor time, of all threads: what a core can do, whatever else the machine does meanwhile. */
static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t since(uint64_t begin_ns)
{
    return cpu_ns() - begin_ns;
}

static size_t pack(struct measurement *m, const struct candidate *c, const uint8_t *data, size_t len)
{
    size_t worth = len - len / 16, packed;
    if (c->zstd)
        packed = ZSTD_compressCCtx(m->zstd_pack, m->packed, worth, data, len, c->level);
    else
        packed =
            (size_t)LZ4_compress_fast((const char *)data, (char *)m->packed, (int)len, (int)worth, c->level);
    return packed == 0 || ZSTD_isError(packed) ? 0 : packed;
}

static void unpack(struct measurement *m, const struct candidate *c, size_t packed, size_t len)
{
    size_t got;
    if (c->zstd)
        got = ZSTD_decompressDCtx(m->zstd_unpack, m->plain, len, m->packed, packed);
    else
        got = (size_t)LZ4_decompress_safe((const char *)m->packed, (char *)m->plain, (int)packed, (int)len);
    if (got != len)
        errx(1, "a chunk does not come back from %s", c->name);
}

static void measure_codecs(struct measurement *m, const uint8_t *data, size_t len)
{
    m->all.packed[0] += len;
    for (size_t i = 1; i < CANDIDATES; i++) {
        uint64_t begin_ns = cpu_ns();
        size_t packed = pack(m, &candidates[i], data, len);
        m->all.pack_ns[i] += since(begin_ns);
        m->all.packed[i] += packed > 0 ? packed : len;
        begin_ns = cpu_ns();
        if (packed > 0)
            unpack(m, &candidates[i], packed, len);
        m->all.unpack_ns[i] += since(begin_ns);
        if (packed > 0 && memcmp(m->plain, data, len) != 0)
            errx(1, "a chunk comes back wrong from %s", candidates[i].name);
    }
}

static void measure_seal(struct measurement *m, const uint8_t *data, size_t len)
{
    static const uint8_t salt[SEAL_KEY_BYTES];
    struct chunk_id id;
    struct error err = {0};
    const uint8_t *sealed;
    size_t sealed_len;
    uint64_t begin_ns = cpu_ns();
    if (chunk_identify(m->tools, salt, data, len, &id, &err) < 0)
        errx(1, "%s", err.text);
    m->all.hash_ns += since(begin_ns);
    begin_ns = cpu_ns();
    if (chunk_seal(m->tools, &id, CODEC_NONE, data, len, &sealed, &sealed_len, &err) < 0)
        errx(1, "%s", err.text);
    m->all.seal_ns += since(begin_ns);
    begin_ns = cpu_ns();
    if (chunk_open(m->tools, &id, sealed, sealed_len, m->plain, len, &err) < 0)
        errx(1, "%s", err.text);
    m->all.open_ns += since(begin_ns);
}

static void take_chunk(struct measurement *m, const uint8_t *data, size_t len)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(data, len, digest);
    m->all.bytes += len;
    m->all.chunks++;
    if (!digests_add(&m->seen, digest))
        return;
    m->all.new_bytes += len;
    m->all.new_chunks++;
    if (m->chunk_bytes == PAGE) /* only to tell what could be shared at best */
        return;
    measure_codecs(m, data, len);
    measure_seal(m, data, len);
}

/* As the store's writer does. */
static void cut(struct measurement *m, const struct snapshot *s)
{
    uint64_t begin = 0, end = 0, space = 0, block = 0, next = 0;
    for (size_t i = 0; i < s->piece_count; i++) {
        struct piece p = s->pieces[i];
        while (p.len > 0) {
            uint64_t room = m->chunk_bytes - p.address % m->chunk_bytes, n = p.len < room ? p.len : room;
            if (end > begin &&
                (space != p.space || block != p.address / m->chunk_bytes || p.address < next)) {
                take_chunk(m, s->stream + begin, end - begin);
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
        take_chunk(m, s->stream + begin, end - begin);
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

/* Into totals[i] what there is up to snapshot i, with itself. */
static void measure(size_t chunk_bytes, struct totals *totals)
{
    struct error err = {0};
    struct measurement m = {.chunk_bytes = chunk_bytes};
    m.tools = chunk_tools_new(true, &err);
    m.zstd_pack = ZSTD_createCCtx();
    m.zstd_unpack = ZSTD_createDCtx();
    if (m.tools == NULL)
        errx(1, "%s", err.text);
    m.packed = xcalloc(1, CHUNK_PLAIN_MAX);
    m.plain = xcalloc(1, CHUNK_PLAIN_MAX);
    for (size_t i = 0; i < snapshot_count; i++) {
        cut(&m, &snapshots[i]);
        totals[i] = m.all;
    }
    ZSTD_freeCCtx(m.zstd_pack);
    ZSTD_freeDCtx(m.zstd_unpack);
    chunk_tools_free(m.tools);
    free(m.packed);
    free(m.plain);
    free(m.seen.slots);
}

/* ---- tables ---- */

static const size_t sizes_kib[] = {4, 64, 128, 256, 512};
#define SIZES countof(sizes_kib)
static struct totals totals[SIZES][SNAPSHOTS_MAX];

static void print_snapshots(void)
{
    printf("| snapshot | MB | chunks of 64 KiB | 128 | 256 | 512 | found %%: of pages | bytes at 64 KiB | "
           "128 | 256 | 512 | "
           "chunks at 64 KiB | 128 | 256 | 512 |\n|");
    for (int i = 0; i < 15; i++)
        printf(" --- |");
    for (size_t i = 0; i < snapshot_count; i++) {
        static const struct totals none;
        printf("\n| %s%s | %.1f |", snapshots[i].label, is_again(i) ? ", again" : "",
            (double)snapshots[i].bytes / 1e6);
        const struct totals *now[SIZES], *before[SIZES];
        for (size_t size = 0; size < SIZES; size++) {
            now[size] = &totals[size][i];
            before[size] = i > 0 ? &totals[size][i - 1] : &none;
        }
        for (size_t size = 1; size < SIZES; size++)
            printf(" %lu |", now[size]->chunks - before[size]->chunks);
        for (size_t size = 0; size < SIZES; size++) {
            uint64_t bytes = now[size]->bytes - before[size]->bytes;
            printf(" %.1f |", percent(bytes - (now[size]->new_bytes - before[size]->new_bytes), bytes));
        }
        for (size_t size = 1; size < SIZES; size++) {
            uint64_t chunks = now[size]->chunks - before[size]->chunks;
            printf(" %.1f |", percent(chunks - (now[size]->new_chunks - before[size]->new_chunks), chunks));
        }
    }
    printf("\n");
}

static void print_sizes(void)
{
    printf("\n| chunks of | number | mean KiB | unlike MB | hash, MB/s | seal, MB/s | open, MB/s |\n"
           "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t size = 1; size < SIZES; size++) {
        const struct totals *t = &totals[size][snapshot_count - 1];
        printf("| %zu KiB | %lu | %.0f | %.1f | %.0f | %.0f | %.0f |\n", sizes_kib[size], t->chunks,
            (double)t->bytes / (double)t->chunks / 1024, (double)t->new_bytes / 1e6,
            per_s(t->new_bytes, t->hash_ns), per_s(t->new_bytes, t->seal_ns),
            per_s(t->new_bytes, t->open_ns));
    }
    printf("\n| codec |");
    for (size_t size = 1; size < SIZES; size++)
        printf(" %zu KiB: %% | pack, MB/s | unpack, MB/s |", sizes_kib[size]);
    printf("\n| --- |");
    for (size_t i = 3; i < 3 * SIZES; i++)
        printf(" ---: |");
    for (size_t i = 1; i < CANDIDATES; i++) {
        printf("\n| %s |", candidates[i].name);
        for (size_t size = 1; size < SIZES; size++) {
            const struct totals *t = &totals[size][snapshot_count - 1];
            printf(" %.1f | %.0f | %.0f |", percent(t->packed[i], t->new_bytes),
                per_s(t->new_bytes, t->pack_ns[i]), per_s(t->new_bytes, t->unpack_ns[i]));
        }
    }
    printf("\n");
}

/* ---- the store's own writer and reader, with its threads and fsyncs, in a new store ---- */

static void publish(struct store *store, const struct snapshot *s)
{
    struct error err = {0};
    struct store_written written;
    uint64_t begin_ns = clock_monotonic_ns(), begin_cpu_ns = cpu_ns();
    struct store_writer *w = store_writer_begin(store, s->id, STORE_DEFAULT_DOMAIN, &err);
    if (w == NULL)
        errx(1, "%s", err.text);
    for (size_t i = 0; i < s->piece_count; i++) {
        const struct piece *p = &s->pieces[i];
        if (store_writer_pages(w, p->space, p->address, s->stream + p->offset, p->len, &err) < 0)
            errx(1, "%s", err.text);
    }
    uint64_t fed_ns = clock_monotonic_ns() - begin_ns;
    if (store_writer_commit(w, "", 0, &written, &err) < 0)
        errx(1, "%s", err.text);
    uint64_t written_ns = clock_monotonic_ns() - begin_ns, written_cpu_ns = since(begin_cpu_ns);
    CLEANUP_FREE uint8_t *plain = xcalloc(1, CHUNK_PLAIN_MAX);
    struct store_reader *reader = store_reader_open(store, s->id, NULL, &err);
    begin_cpu_ns = cpu_ns();
    for (size_t i = 0; reader != NULL && i < store_reader_chunk_count(reader); i++)
        if (store_reader_read_chunk(reader, i, plain, &err) < 0)
            errx(1, "%s", err.text);
    uint64_t read_ns = since(begin_cpu_ns);
    store_reader_close(reader);
    printf("| %s | %.1f | %.1f | %lu | %lu | %.0f | %.0f | %.0f | %.0f |\n", s->label, (double)s->bytes / 1e6,
        (double)written.stored_bytes / 1e6, written.chunks, written.chunks_shared, per_s(s->bytes, fed_ns),
        per_s(s->bytes, written_ns), per_s(s->bytes, written_cpu_ns), per_s(s->bytes, read_ns));
}

static void publish_all(const char *near)
{
    struct error err = {0};
    CLEANUP_FREE char *path = xasprintf("%s.bench-XXXXXX", near);
    if (mkdtemp(path) == NULL)
        errx(1, "cannot make the folder %s", path);
    CLEANUP_FD int data = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct store *store = store_open(data, &err);
    if (store == NULL)
        errx(1, "%s", err.text);
    printf("\n| the store's writer | MB | new on disk MB | chunks | found | sealed, MB/s | with fsync, MB/s "
           "| written, MB per CPU second | read, MB per CPU second |\n"
           "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
    for (size_t i = 0; i < snapshot_count; i++)
        publish(store, &snapshots[i]);
    store_close(store);
    CLEANUP_FREE char *command = xasprintf("rm -rf '%s'", path);
    if (system(command) != 0)
        errx(1, "cannot remove %s", path);
}

int main(int argc, char **argv)
{
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
    if (snapshot_count == 0)
        errx(1, "%s: there are no snapshots", argv[1]);
    for (size_t size = 0; size < SIZES; size++)
        measure(sizes_kib[size] * 1024, totals[size]);
    print_snapshots();
    print_sizes();
    publish_all(argv[1]);
    return 0;
}
