#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "image/image.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* root 2 -> (child 3 -> zombie 4), child 5 */
#define PROCESSES 4

static struct image_mapping *add_mapping(
    struct image_process *p, uint64_t start, uint64_t pages, uint64_t stash)
{
    p->mappings = xrealloc(p->mappings, (p->mapping_count + 1) * sizeof *p->mappings);
    p->mappings[p->mapping_count] = (struct image_mapping){.start = start,
        .end = start + pages * 4096,
        .protection = PROT_READ,
        .kind = IMAGE_ANONYMOUS,
        .stash = stash,
        .name = xstrdup("")};
    return &p->mappings[p->mapping_count++];
}

static void plan_fork(struct image *image, uint32_t index)
{
    plan_do(&image->processes[image->processes[index].parent].process_plan, PLAN_FORK, plan_literal(index));
}

static struct image make_tree(void)
{
    static const uint32_t parents[PROCESSES] = {0, 0, 1, 0};
    struct image image = {.process_count = PROCESSES,
        .processes = xcalloc(PROCESSES, sizeof *image.processes),
        .stash_start = 0x300000000000,
        .stash_end = 0x300000200000};
    uint8_t frame[512] = {0};
    const uint32_t header[2] = {0x20080522 /* _LINUX_CAPABILITY_VERSION_3 */, 0}, sets[6] = {0};
    image_put_aligned(&image, frame, sizeof frame, 64);
    uint64_t header_at = image_put(&image, header, sizeof header),
             sets_at = image_put(&image, sets, sizeof sets);
    for (uint32_t i = 0; i < PROCESSES; i++) {
        struct image_process *p = &image.processes[i];
        p->pid = 2 + (int32_t)i;
        p->parent = parents[i];
        if (i > 0)
            plan_fork(&image, i);
        if (i == 2) {
            p->kind = IMAGE_ZOMBIE;
            continue;
        }
        p->thread_count = 1;
        p->threads = xcalloc(1, sizeof *p->threads);
        p->threads[0].tid = p->pid;
        plan_call(&p->threads[0].plan, SYS_capset, plan_data(header_at), plan_data(sets_at));
        add_mapping(p, 0x10000, 4, i == 0 ? 0 : 0x300000000000 + i * 0x10000);
        if (i > 0)
            plan_do(&p->process_plan, PLAN_BECOME, plan_literal(0));
    }
    return image;
}

/* Whether a decoder takes what the encoder makes of it. Frees it. */
static bool is_taken(struct image *image)
{
    struct image again = {0};
    struct error err = {0};
    CLEANUP_BUFFER struct buffer manifest = {0};
    image_encode(&manifest, image);
    int result = image_decode(&again, (struct bytes){manifest.data, manifest.len}, &err);
    if (result == 0) {
        CLEANUP_BUFFER struct buffer second = {0};
        image_encode(&second, &again);
        assert_int_equal(second.len, manifest.len);
        assert_memory_equal(second.data, manifest.data, manifest.len);
    } else {
        assert_int_equal(err.kind, ERROR_CORRUPT);
    }
    image_free(&again);
    image_free(image);
    return result == 0;
}

static void a_tree_comes_back(void **state)
{
    (void)state;
    struct image image = make_tree();
    assert_true(is_taken(&image));
}

static void the_tree_is_printed(void **state)
{
    (void)state;
    struct image image = make_tree();
    CLEANUP_BUFFER struct buffer text = {0};
    strcpy(image.processes[0].threads[0].name, "root");
    image_print(&text, &image, true, false);
    buffer_append_u8(&text, 0);
    assert_non_null(strstr((char *)text.data, "processes    4, 3 threads"));
    assert_non_null(strstr((char *)text.data, "(has ended)"));
    assert_non_null(strstr((char *)text.data, "==== process 5"));
    image_free(&image);
}

static void parents_come_first_and_families_lie_together(void **state)
{
    (void)state;
    struct image later = make_tree(), apart = make_tree(), itself = make_tree();
    later.processes[1].parent = 3;
    assert_false(is_taken(&later));
    itself.processes[1].parent = 1;
    assert_false(is_taken(&itself));
    /* The child of 3 behind its uncle. */
    apart.processes[2].parent = 0;
    apart.processes[3].parent = 1;
    assert_false(is_taken(&apart));
}

static void stashes_are_in_their_range(void **state)
{
    (void)state;
    struct image outside = make_tree(), overlapping = make_tree(), odd = make_tree(), of_root = make_tree(),
                 in_use = make_tree();
    outside.processes[1].mappings[0].stash = 0x3000001ff000;
    assert_false(is_taken(&outside));
    overlapping.processes[3].mappings[0].stash = overlapping.processes[1].mappings[0].stash + 4096;
    assert_false(is_taken(&overlapping));
    odd.processes[1].mappings[0].stash++;
    assert_false(is_taken(&odd));
    of_root.processes[0].mappings[0].stash = 0x300000000000;
    assert_false(is_taken(&of_root));
    add_mapping(&in_use.processes[3], 0x300000100000, 1, 0);
    assert_false(is_taken(&in_use));
}

static void only_the_living_have_threads(void **state)
{
    (void)state;
    struct image dead = make_tree(), lively = make_tree(), root = make_tree(), number = make_tree();
    dead.processes[3].kind = IMAGE_HELPER;
    assert_false(is_taken(&dead));
    lively.processes[2].kind = IMAGE_LIVE;
    assert_false(is_taken(&lively));
    root.processes[0].kind = IMAGE_ZOMBIE;
    assert_false(is_taken(&root));
    number.processes[3].pid = 77;
    assert_false(is_taken(&number));
}

static void each_is_forked_once_by_its_parent(void **state)
{
    (void)state;
    struct image uncle = make_tree(), twice = make_tree(), never = make_tree();
    uncle.processes[0].process_plan.ops[1].arg[0] = 2; /* 3's child instead of 5 */
    assert_false(is_taken(&uncle));
    plan_fork(&twice, 3);
    assert_false(is_taken(&twice));
    never.processes[0].process_plan.count--;
    assert_false(is_taken(&never));
}

static void operations_of_trees_are_only_where_they_belong(void **state)
{
    (void)state;
    struct image backwards = make_tree(), unknown = make_tree(), in_release = make_tree(),
                 barrier = make_tree();
    plan_do(&backwards.processes[1].process_plan, PLAN_FORK, plan_literal(1));
    assert_false(is_taken(&backwards));
    plan_do(&unknown.processes[0].process_plan, PLAN_FORK, plan_literal(PROCESSES));
    assert_false(is_taken(&unknown));
    plan_do(&in_release.processes[0].release_plan, PLAN_BECOME, plan_literal(0));
    assert_false(is_taken(&in_release));
    plan_do(&barrier.processes[0].process_plan, PLAN_BARRIER, plan_literal(PLAN_BARRIERS));
    assert_false(is_taken(&barrier));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tree_comes_back),
        cmocka_unit_test(the_tree_is_printed),
        cmocka_unit_test(parents_come_first_and_families_lie_together),
        cmocka_unit_test(stashes_are_in_their_range),
        cmocka_unit_test(only_the_living_have_threads),
        cmocka_unit_test(each_is_forked_once_by_its_parent),
        cmocka_unit_test(operations_of_trees_are_only_where_they_belong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
