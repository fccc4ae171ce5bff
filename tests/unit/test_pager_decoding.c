/* Pieces that several threads decode: all of them, in their order, as they were; up to what is damaged. */
#include "pager/decoding.h"

#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECE_BYTES (256u * 1024)
#define NEVER SIZE_MAX
#define WORKERS_MAX 8

/* Piece i has one run, at i * PIECE_BYTES, and its bytes are all (uint8_t)i. */
struct set {
    size_t count, taken, bad_take, bad_decode;
    size_t workers;
    size_t has[WORKERS_MAX]; /* the piece that a worker took */
    atomic_int taking;
    atomic_size_t by_helpers;
};

static int hot_begin(void *context, size_t workers, struct error *err)
{
    struct set *s = context;
    if (workers > WORKERS_MAX)
        return error_set(err, ERROR_LIMIT, "so many were not asked for");
    s->workers = workers;
    return 0;
}

static int hot_take(void *context, size_t worker, struct error *err)
{
    struct set *s = context;
    assert_true(worker < s->workers);
    assert_int_equal(atomic_fetch_add(&s->taking, 1), 0); /* one at a time */
    size_t piece = s->taken;
    int result = piece < s->count;
    if (piece == s->bad_take)
        result = error_set(err, ERROR_CORRUPT, "damaged");
    s->has[worker] = piece;
    s->taken += result > 0;
    if (worker > 0)
        s->by_helpers++;
    atomic_fetch_sub(&s->taking, 1);
    return result;
}

static int hot_decode(void *context, size_t worker, struct pager_hot_piece *piece, struct error *err)
{
    const struct set *s = context;
    size_t i = s->has[worker];
    if (i % 7 == 0) /* so that later ones are done before */
        usleep(200);
    memset(piece->data, (int)(uint8_t)i, PIECE_BYTES);
    piece->runs[0] = (struct pager_run){i * PIECE_BYTES, PIECE_BYTES};
    piece->run_count = 1;
    return i == s->bad_decode ? error_set(err, ERROR_CORRUPT, "damaged") : 0;
}

static struct pager_source source_of(struct set *s)
{
    return (struct pager_source){.context = s,
        .hot_begin = hot_begin,
        .hot_take = hot_take,
        .hot_decode = hot_decode,
        .hot_bytes = s->count * PIECE_BYTES,
        .hot_piece_bytes = PIECE_BYTES,
        .hot_piece_runs = 1};
}

static void check_piece(const struct pager_hot_piece *piece, size_t i)
{
    assert_int_equal(piece->run_count, 1);
    assert_int_equal(piece->runs[0].offset, i * PIECE_BYTES);
    for (size_t k = 0; k < PIECE_BYTES; k += 4095)
        assert_int_equal(piece->data[k], (uint8_t)i);
}

/* All pieces, each given back `late` pieces later; how many there were. */
static size_t take_all(struct set *s, size_t helpers, size_t late)
{
    struct pager_source source = source_of(s);
    struct decoding *d = decoding_new(&source, helpers);
    struct pager_hot_piece *piece;
    struct pager_hot_piece **kept = xcalloc(s->count + 1, sizeof(struct pager_hot_piece *));
    size_t count = 0;
    assert_non_null(d);
    assert_true(decoding_begin(d, true));
    while ((piece = decoding_next(d, false)) != NULL) {
        check_piece(piece, count);
        kept[count++] = piece;
        if (count > late) {
            check_piece(kept[count - 1 - late], count - 1 - late);
            decoding_give_back(d, kept[count - 1 - late]);
        }
    }
    decoding_end(d);
    assert_null(decoding_next(d, false));
    for (size_t i = count > late ? count - late : 0; i < count; i++)
        check_piece(kept[i], i);
    decoding_free(d);
    free(kept);
    return count;
}

static struct set set_of(size_t count)
{
    return (struct set){.count = count, .bad_take = NEVER, .bad_decode = NEVER};
}

static void many_pieces_come_in_their_order(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers < DECODING_THREADS_MAX; helpers++) {
        struct set s = set_of(300);
        assert_int_equal(take_all(&s, helpers, 0), 300);
        assert_true(helpers > 0 || s.by_helpers == 0);
        s = set_of(300);
        assert_int_equal(take_all(&s, helpers, 250), 300);
    }
}

static void more_threads_than_pieces(void **state)
{
    (void)state;
    for (size_t count = 0; count < 3; count++) {
        struct set s = set_of(count);
        assert_int_equal(take_all(&s, DECODING_THREADS_MAX - 1, 5), count);
    }
}

static void more_helpers_than_there_may_be(void **state)
{
    struct set s = set_of(20);
    (void)state;
    assert_int_equal(take_all(&s, 100, 0), 20);
    assert_int_equal(s.workers, DECODING_THREADS_MAX);
}

static void what_follows_damage_does_not_come(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers < DECODING_THREADS_MAX; helpers++) {
        for (size_t bad = 0; bad < 30; bad += 13) {
            struct set s = set_of(30);
            s.bad_take = bad;
            assert_int_equal(take_all(&s, helpers, 3), bad);
            s = set_of(30);
            s.bad_decode = bad;
            assert_int_equal(take_all(&s, helpers, 3), bad);
        }
    }
}

static void helpers_work_ahead(void **state)
{
    (void)state;
    struct set s = set_of(20);
    struct pager_source source = source_of(&s);
    struct decoding *d = decoding_new(&source, 1);
    assert_non_null(d);
    decoding_warm_up(d);
    usleep(1000);
    assert_int_equal(s.by_helpers, 0); /* not before they may */
    assert_true(decoding_begin(d, true));
    while (s.by_helpers <= 20) /* and the end */
        usleep(100);
    for (size_t i = 0; i < 20; i++)
        check_piece(decoding_next(d, false), i);
    assert_null(decoding_next(d, false));
    decoding_free(d);
}

/* There is room for PAGER_HOT_BYTES_MAX: who keeps all of it gets no more, but no damage either. */
static void any_order_gives_each_once(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers < DECODING_THREADS_MAX; helpers++) {
        struct set s = set_of(300);
        struct pager_source source = source_of(&s);
        struct decoding *d = decoding_new(&source, helpers);
        struct pager_hot_piece *piece;
        bool seen[300] = {false};
        size_t count = 0;
        assert_non_null(d);
        assert_true(decoding_begin(d, true));
        for (; (piece = decoding_next(d, count >= 100)) != NULL; count++) {
            size_t i = piece->runs[0].offset / PIECE_BYTES;
            assert_true(i < 300 && !seen[i] && (count > 100 || i == count));
            seen[i] = true;
            check_piece(piece, i);
            decoding_give_back(d, piece);
        }
        assert_int_equal(count, 300);
        decoding_free(d);
    }
}

static void full_slots_are_an_end(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers < 2; helpers++) {
        size_t most = PAGER_HOT_BYTES_MAX / PIECE_BYTES;
        struct set s = set_of(most + 10);
        assert_int_equal(take_all(&s, helpers, most + 10), most);
    }
}

static void given_up_at_any_time(void **state)
{
    (void)state;
    for (size_t helpers = 0; helpers < DECODING_THREADS_MAX; helpers++) {
        for (size_t taken = 0; taken < 4; taken++) {
            struct set s = set_of(1000);
            struct pager_source source = source_of(&s);
            struct decoding *d = decoding_new(&source, helpers);
            assert_non_null(d);
            if (taken > 0)
                assert_true(decoding_begin(d, true));
            for (size_t i = 1; i < taken; i++)
                check_piece(decoding_next(d, false), i - 1);
            decoding_free(d);
        }
    }
}

static void without_a_hot_set_there_is_nothing(void **state)
{
    struct set s = set_of(4);
    struct pager_source source = source_of(&s);
    (void)state;
    source.hot_take = NULL;
    struct decoding *d = decoding_new(&source, 1); /* it may get one later */
    assert_non_null(d);
    assert_false(decoding_begin(d, true));
    decoding_free(d);
    source = source_of(&s);
    source.hot_piece_bytes = 0;
    assert_null(decoding_new(&source, 1));
}

static void small_sets_are_not_helped_with(void **state)
{
    struct set s = set_of(1);
    struct pager_source source = source_of(&s);
    (void)state;
    assert_false(decoding_is_helped(&source));
    source.hot_bytes = DECODING_HELPED_BYTES;
    assert_true(decoding_is_helped(&source));
    assert_true(decoding_helpers_max() < DECODING_THREADS_MAX);
    s = set_of(50);
    source = source_of(&s);
    struct decoding *d = decoding_new(&source, 2);
    assert_true(decoding_begin(d, false));
    for (size_t i = 0; i < 50; i++) {
        struct pager_hot_piece *piece = decoding_next(d, true);
        check_piece(piece, i);
        decoding_give_back(d, piece);
    }
    assert_int_equal(s.by_helpers, 0);
    decoding_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_pieces_come_in_their_order),
        cmocka_unit_test(more_threads_than_pieces),
        cmocka_unit_test(more_helpers_than_there_may_be),
        cmocka_unit_test(what_follows_damage_does_not_come),
        cmocka_unit_test(helpers_work_ahead),
        cmocka_unit_test(any_order_gives_each_once),
        cmocka_unit_test(full_slots_are_an_end),
        cmocka_unit_test(given_up_at_any_time),
        cmocka_unit_test(without_a_hot_set_there_is_nothing),
        cmocka_unit_test(small_sets_are_not_helped_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
