/* Manifests as no freeze makes them: the decoder refuses each, and says where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "image/image.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#define START 0x7f0000000000ull
#define BYTES 0x10000ull
#define MAP_HERE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE)
#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)

static uint64_t header_at, sets_at, text_at, room_at;

static void add_mapping(struct image *image, uint64_t start, uint64_t end, enum image_mapping_kind kind)
{
    struct image_process *p = &image->processes[0];
    p->mappings = xrealloc(p->mappings, (p->mapping_count + 1) * sizeof *p->mappings);
    p->mappings[p->mapping_count++] =
        (struct image_mapping){.start = start, .end = end, .kind = kind, .name = xstrdup("")};
}

static struct plan_op *add_map(struct image *image, uint64_t start, uint64_t bytes, uint64_t flags)
{
    struct plan_op *op =
        plan_call(&image->processes[0].template_plan, SYS_mmap, plan_literal(start), plan_literal(bytes),
            plan_literal(PROT_READ | PROT_WRITE), plan_literal(flags), plan_literal((uint64_t)-1));
    plan_expect_value(op, (int64_t)start);
    return op;
}

/* One process, one thread, one mapping with a page in it, and a sandbox to enter. */
static struct image make_image(void)
{
    struct image image = {
        .process_count = 1, .processes = xcalloc(1, sizeof *image.processes), .bulk_bytes = 4096};
    struct image_process *p = &image.processes[0];
    const uint8_t frame[512] = {0};
    const uint32_t header[2] = {0x20080522 /* _LINUX_CAPABILITY_VERSION_3 */, 0}, sets[6] = {0};
    image_put_aligned(&image, frame, sizeof frame, 64);
    header_at = image_put(&image, header, sizeof header);
    sets_at = image_put(&image, sets, sizeof sets);
    text_at = image_put_string(&image, "/tmp/x");
    room_at = image_put(&image, frame, 64);
    p->pid = 2;
    p->thread_count = 1;
    p->threads = xcalloc(1, sizeof *p->threads);
    p->threads[0].tid = 2;
    plan_call(&p->threads[0].plan, SYS_capset, plan_data(header_at), plan_data(sets_at));
    add_mapping(&image, START, START + BYTES, IMAGE_ANONYMOUS);
    add_map(&image, START, BYTES, MAP_HERE);
    plan_do(&p->template_plan, PLAN_READ_PAGES, plan_literal(START), plan_literal(4096));
    image.page_bytes = 4096;
    plan_call(&p->process_plan, SYS_setns, plan_slot(PLAN_SLOT_INIT_PIDFD), plan_literal(NAMESPACES));
    image.sandbox_ops_end = 1;
    plan_save(plan_call(&p->process_plan, SYS_openat, plan_literal((uint64_t)AT_FDCWD), plan_data(text_at),
                  plan_literal(O_RDONLY)),
        0);
    plan_call(&p->process_plan, SYS_close, plan_register(0));
    return image;
}

static bool decode(struct image *image, struct error *err)
{
    struct image again = {0};
    CLEANUP_BUFFER struct buffer manifest = {0};
    image_encode(&manifest, image);
    int result = image_decode(&again, (struct bytes){manifest.data, manifest.len}, err);
    image_free(&again);
    image_free(image);
    return result == 0;
}

static void expect_taken(struct image *image)
{
    struct error err = {0};
    if (!decode(image, &err))
        fail_msg("%s", err.text);
}

/* Frees it. */
static void expect_refused(struct image *image, const char *says)
{
    struct error err = {0};
    if (decode(image, &err))
        fail_msg("it was taken, and should be refused: %s", says);
    assert_int_equal(err.kind, ERROR_CORRUPT);
    if (strstr(err.text, says) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void what_a_freeze_makes_is_taken(void **state)
{
    (void)state;
    struct image image = make_image();
    expect_taken(&image);
}

static void mappings_are_apart_and_in_order(void **state)
{
    (void)state;
    struct image image = make_image();
    add_mapping(&image, START + 4096, START + 8192, IMAGE_ANONYMOUS);
    expect_refused(&image, "damaged near byte");
    image = make_image();
    add_mapping(&image, START - 8192, START - 4096, IMAGE_ANONYMOUS);
    expect_refused(&image, "damaged near byte");
    image = make_image();
    add_mapping(&image, START + BYTES, START + BYTES + 1, IMAGE_ANONYMOUS);
    expect_refused(&image, "damaged near byte");
    image = make_image();
    add_mapping(&image, 0x7ffffffff000, 0x800000000000, IMAGE_ANONYMOUS);
    expect_refused(&image, "damaged near byte");
    image = make_image();
    add_mapping(&image, 0xffffffffff600000, 0xffffffffff601000, IMAGE_SPECIAL);
    expect_taken(&image);
    image = make_image();
    image.processes[0].mappings[0].kind = 9;
    expect_refused(&image, "damaged near byte");
    image = make_image();
    image.processes[0].mappings[0].page_count = 17;
    expect_refused(&image, "damaged near byte");
}

static void the_vdso_goes_where_the_list_says(void **state)
{
    (void)state;
    struct image image = make_image();
    add_mapping(&image, 0x7ff000000000, 0x7ff000002000, IMAGE_SPECIAL);
    image.processes[0].vdso_start = 0x7ff000000000;
    image.processes[0].vdso_bytes = 0x2000;
    expect_taken(&image);
    image = make_image();
    image.processes[0].vdso_start = 0x200000000000;
    image.processes[0].vdso_bytes = 0x2000;
    expect_refused(&image, "damaged near byte");
}

/* An operation on memory, of the template plan. */
static void expect_memory_refused(long number, uint64_t start, uint64_t bytes, uint64_t third)
{
    struct image image = make_image();
    plan_call(&image.processes[0].template_plan, number, plan_literal(start), plan_literal(bytes),
        plan_literal(third));
    expect_refused(&image, "process 0, template plan, operation 2");
}

static void memory_is_touched_only_where_mappings_are(void **state)
{
    (void)state;
    static const struct {
        uint64_t start, bytes;
    } ranges[] = {{START - 4096, 4096}, {START + BYTES, 4096}, {START, BYTES + 4096}, {START + 1, 4096},
        {START, 1}, {START, 0}, {START, UINT64_MAX - 4095}, {UINT64_MAX - 4095, 8192},
        {0x200000000000, BYTES}, {0, 4096}};
    for (size_t i = 0; i < countof(ranges); i++) {
        expect_memory_refused(SYS_mprotect, ranges[i].start, ranges[i].bytes, PROT_READ);
        expect_memory_refused(SYS_madvise, ranges[i].start, ranges[i].bytes, MADV_HUGEPAGE);
        expect_memory_refused(SYS_mseal, ranges[i].start, ranges[i].bytes, 0);
        expect_memory_refused(SYS_munmap, ranges[i].start, ranges[i].bytes, 0);
        struct image image = make_image();
        add_map(&image, ranges[i].start, ranges[i].bytes, MAP_HERE);
        expect_refused(&image, "operation 2 (mmap): it has arguments");
        image = make_image();
        plan_do(&image.processes[0].template_plan, PLAN_LAZY_PAGES, plan_literal(ranges[i].start),
            plan_literal(ranges[i].bytes));
        expect_refused(&image, "operation 2 (pages on demand): it has arguments");
    }
    expect_memory_refused(SYS_munmap, START, BYTES, 0); /* no snapshot unmaps anything */
    expect_memory_refused(SYS_mremap, START, BYTES, BYTES);
    expect_memory_refused(SYS_madvise, START, BYTES, MADV_DONTNEED);
    expect_memory_refused(SYS_madvise, START, BYTES, MADV_HWPOISON);
    expect_memory_refused(SYS_mprotect, START, BYTES, 8);
}

static void mappings_are_made_as_snapshots_need_them(void **state)
{
    (void)state;
    static const uint64_t flags[] = {MAP_PRIVATE | MAP_ANONYMOUS, MAP_HERE | MAP_HUGETLB,
        MAP_HERE | MAP_LOCKED, MAP_PRIVATE | MAP_FIXED_NOREPLACE, MAP_HERE | 1ull << 40};
    for (size_t i = 0; i < countof(flags); i++) {
        struct image image = make_image();
        add_map(&image, START, BYTES, flags[i]);
        expect_refused(&image, "(mmap): it maps in a way that no snapshot needs");
    }
    struct image image = make_image();
    add_map(&image, START, BYTES, MAP_HERE)->expect = PLAN_EXPECT_ANYTHING;
    expect_refused(&image, "no snapshot needs");
    image = make_image();
    add_map(&image, START, BYTES, MAP_HERE)->arg[4] = 5; /* a descriptor of the template's own */
    expect_refused(&image, "operation 2 (mmap): it has arguments");
}

static void pages_are_as_many_as_the_stream_has(void **state)
{
    (void)state;
    struct image image = make_image();
    image.page_bytes = 8192;
    expect_refused(&image, "read 4096 bytes of 8192");
    image = make_image();
    plan_do(&image.processes[0].template_plan, PLAN_READ_PAGES, plan_literal(START), plan_literal(4096));
    expect_refused(&image, "operation 2 (read pages): it reads more pages than there are");
    image = make_image();
    image.bulk_bytes = IMAGE_BULK_MAX + 1;
    expect_refused(&image, "damaged near byte");
}

enum which { IN_TEMPLATE, IN_SANDBOX, IN_PROCESS, IN_THREAD, IN_RELEASE };

static struct plan *plan_of(struct image *image, enum which which)
{
    struct image_process *p = &image->processes[0];
    struct plan *const plans[] = {[IN_TEMPLATE] = &p->template_plan,
        [IN_SANDBOX] = &p->process_plan,
        [IN_PROCESS] = &p->process_plan,
        [IN_THREAD] = &p->threads[0].plan,
        [IN_RELEASE] = &p->release_plan};
    return plans[which];
}

/* At the plan's begin, which is in the sandbox part of a process plan. */
static void insert(struct image *image, enum which which, const struct plan_op *op)
{
    struct plan *plan = plan_of(image, which);
    uint32_t at = which == IN_PROCESS ? image->sandbox_ops_end : 0;
    plan_append(plan, PLAN_SYSCALL, 0, NULL, 0);
    memmove(&plan->ops[at + 1], &plan->ops[at], (plan->count - 1 - at) * sizeof *plan->ops);
    plan->ops[at] = *op;
    if (which == IN_SANDBOX)
        image->sandbox_ops_end++;
}

static void calls_outside_the_list_are_refused(void **state)
{
    (void)state;
    static const long calls[] = {SYS_execve, SYS_clone, SYS_clone3, SYS_fork, SYS_ptrace, SYS_mount,
        SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_bpf, SYS_init_module, SYS_kexec_load,
        SYS_reboot, SYS_process_vm_writev, SYS_open_by_handle_at, SYS_setuid, SYS_munmap, SYS_mremap,
        SYS_seccomp, SYS_io_uring_setup, SYS_userfaultfd, SYS_perf_event_open, SYS_pidfd_getfd,
        SYS_pidfd_send_signal, SYS_open, SYS_openat2, SYS_rt_sigreturn, SYS_exit, SYS_fsopen,
        SYS_mount_setattr, SYS_keyctl, 9999, 65535};
    for (enum which which = IN_TEMPLATE; which <= IN_RELEASE; which++)
        for (size_t i = 0; i < countof(calls); i++) {
            struct image image = make_image();
            insert(
                &image, which, &(struct plan_op){.number = (uint16_t)calls[i], .subject = PLAN_NO_SUBJECT});
            expect_refused(&image, "is not one that this plan may have");
        }
}

static void calls_are_only_in_their_plans(void **state)
{
    (void)state;
    const struct plan_op setns = {.number = SYS_setns,
        .arg_kind = {PLAN_SLOT},
        .arg = {PLAN_SLOT_INIT_PIDFD, NAMESPACES},
        .subject = PLAN_NO_SUBJECT};
    struct image image = make_image();
    insert(&image, IN_PROCESS, &setns);
    expect_refused(&image, "process 0, process plan, operation 1 (setns): it is not one");
    struct plan_op wrong = setns;
    wrong.arg[1] |= CLONE_NEWUSER;
    image = make_image();
    image.processes[0].process_plan.ops[0] = wrong;
    expect_refused(&image, "operation 0 (setns): it has arguments");
    wrong = setns;
    wrong.arg[0] = PLAN_SLOT_CODE;
    image = make_image();
    image.processes[0].process_plan.ops[0] = wrong;
    expect_refused(&image, "operation 0 (setns): it has arguments");
    for (enum which which = IN_TEMPLATE; which <= IN_RELEASE; which++) {
        if (which == IN_PROCESS)
            continue;
        image = make_image();
        insert(&image, which,
            &(struct plan_op){
                .number = SYS_socket, .arg = {AF_INET, SOCK_STREAM}, .subject = PLAN_NO_SUBJECT});
        expect_refused(&image, "(socket): it is not one that this plan may have");
    }
    image = make_image();
    image.sandbox_ops_end = 4;
    expect_refused(&image, "no end of the sandbox part");
    image = make_image();
    plan_do(&image.processes[0].process_plan, PLAN_COPY, plan_literal(START), plan_data(0), plan_literal(8));
    expect_refused(&image, "operation 3 (copy): it is not one");
    image = make_image();
    plan_do(&image.processes[0].process_plan, PLAN_READ_PAGES, plan_literal(START), plan_literal(4096));
    expect_refused(&image, "operation 3 (read pages): it is not one");
}

#define expect_call_refused(number, ...) \
    do { \
        struct image image_ = make_image(); \
        plan_call(&image_.processes[0].process_plan, number, __VA_ARGS__); \
        expect_refused(&image_, "process 0, process plan, operation 3"); \
    } while (0)

static void data_is_within_the_data_area(void **state)
{
    (void)state;
    struct image sizes = make_image();
    uint64_t end = sizes.data.len;
    struct plan_arg fd = plan_literal(3);
    image_free(&sizes);
    expect_call_refused(SYS_write, fd, plan_data(end - 4), plan_literal(5));
    expect_call_refused(SYS_write, fd, plan_data(0), plan_literal(UINT64_MAX));
    expect_call_refused(SYS_write, fd, plan_data(0), plan_literal(end + 1));
    expect_call_refused(SYS_write, fd, plan_literal(START), plan_literal(8));
    expect_call_refused(SYS_write, fd, plan_data(0), plan_slot(PLAN_SLOT_LOG));
    expect_call_refused(SYS_pwrite64, fd, plan_bulk(4000), plan_literal(97));
    expect_call_refused(SYS_pwrite64, fd, plan_bulk(1), plan_literal(UINT64_MAX));
    expect_call_refused(SYS_setgroups, plan_literal(1000), plan_data(0));
    expect_call_refused(SYS_pipe2, plan_data(end - 4), plan_literal(0));
    expect_call_refused(SYS_chdir, plan_data(end));
    struct image image = make_image();
    memset(image.data.data + text_at, 'x', image.data.len - text_at); /* text without an end */
    expect_refused(&image, "operation 1 (openat): it has arguments");
    image = make_image();
    plan_do(&image.processes[0].process_plan, PLAN_WRITE_ALL, fd, plan_data(end), plan_literal(1));
    expect_refused(&image, "");
    image = make_image();
    image.processes[0].threads[0].frame = (end - 64) & ~63ull; /* a signal frame is longer */
    expect_refused(&image, "damaged near byte");
}

static void arguments_that_matter_are_checked(void **state)
{
    (void)state;
    struct plan_arg fd = plan_literal(3), here = plan_literal((uint64_t)AT_FDCWD), text = plan_data(text_at);
    expect_call_refused(SYS_prctl, plan_literal(PR_SET_SECCOMP), plan_literal(2));
    expect_call_refused(
        SYS_prctl, plan_literal(PR_CAP_AMBIENT), plan_literal(PR_CAP_AMBIENT_RAISE), plan_literal(21));
    expect_call_refused(SYS_mknodat, here, text, plan_literal(S_IFBLK | 0600), plan_literal(0));
    expect_call_refused(SYS_mknodat, here, text, plan_literal(S_IFIFO | 0600), plan_literal(0x801));
    expect_call_refused(SYS_setsockopt, fd, plan_literal(SOL_SOCKET), plan_literal(SO_ATTACH_BPF),
        plan_data(room_at), plan_literal(4));
    expect_call_refused(SYS_kill, plan_literal((uint64_t)-1), plan_literal(9));
    expect_call_refused(SYS_kill, plan_literal(1), plan_literal(9));
    expect_call_refused(SYS_ioctl, fd, plan_literal(0x5412 /* TIOCSTI */), plan_data(room_at));
    expect_call_refused(SYS_dup3, plan_slot(PLAN_SLOT_INIT_PIDFD), plan_literal(5), plan_literal(0));
    expect_call_refused(SYS_openat, fd, text, plan_literal(O_RDONLY));
    expect_call_refused(SYS_umask, plan_literal(0), plan_literal(1)); /* an argument too many */
    static const char *const paths[] = {
        "/proc/1/mem", "/proc/1/root/etc/shadow", "/proc/self/../1/mem", "/proc/3/fd/9"};
    for (size_t i = 0; i < countof(paths); i++) {
        struct image image = make_image();
        image.processes[0].process_plan.ops[1].arg[1] = image_put_string(&image, paths[i]);
        expect_refused(&image, "operation 1 (openat): it has arguments");
    }
    struct image image = make_image();
    image.processes[0].process_plan.ops[1].arg[1] = image_put_string(&image, "/proc/2/status");
    expect_taken(&image);
}

static void registers_and_slots_are_known(void **state)
{
    (void)state;
    expect_call_refused(SYS_close, plan_register(1)); /* nothing was put into it */
    struct image image = make_image();
    struct plan *plan = &image.processes[0].process_plan;
    plan_save(plan_call(plan, SYS_umask, plan_literal(022)), 1);
    plan_call(plan, SYS_close, plan_register(1));
    expect_refused(&image, "operation 4 (close): it has arguments"); /* no descriptor */
    image = make_image();
    plan_call(&image.processes[0].release_plan, SYS_lseek, plan_register(0)); /* another plan's */
    expect_refused(&image, "reads a register that nothing was put into");
    static const enum plan_arg_kind kinds[] = {PLAN_SLOT, PLAN_REGISTER, PLAN_REGISTER + 1};
    static const uint64_t values[] = {PLAN_SLOT_COUNT, PLAN_REGISTERS, 0};
    for (size_t i = 0; i < countof(kinds); i++) {
        image = make_image();
        plan_call(&image.processes[0].process_plan, SYS_close, (struct plan_arg){kinds[i], values[i]});
        expect_refused(&image, "damaged near byte");
    }
    image = make_image();
    image.processes[0].process_plan.ops[1].save = PLAN_REGISTERS + 1;
    expect_refused(&image, "damaged near byte");
}

static void no_thread_keeps_rights_unsaid(void **state)
{
    (void)state;
    struct image image = make_image();
    image.processes[0].threads[0].plan.count = 0;
    expect_refused(&image, "plan of thread 0: it does not end with settling the thread's rights");
    image = make_image();
    plan_call(&image.processes[0].threads[0].plan, SYS_set_tid_address, plan_literal(START));
    expect_refused(&image, "does not end with");
    image = make_image();
    image.processes[0].threads[0].plan.ops[0].expect = PLAN_EXPECT_ANYTHING;
    expect_refused(&image, "bytes that are not there");
    image = make_image();
    image.processes[0].threads[0].plan.ops[0].arg[1] = image.data.len - 16;
    expect_refused(&image, "bytes that are not there");
    image = make_image();
    ((uint8_t *)image.data.data)[header_at + 4] = 1;
    expect_refused(&image, "the rights of somebody else");
    /* Bytes that say so are not changed later. */
    for (uint64_t at = sets_at - 7; at < sets_at + 24; at++) {
        image = make_image();
        plan_do(&image.processes[0].template_plan, PLAN_STORE, plan_data(at), plan_literal(UINT64_MAX),
            plan_literal(8));
        expect_refused(&image, "operation 2 (store): it has arguments");
    }
    image = make_image();
    plan_call(&image.processes[0].process_plan, SYS_pipe2, plan_data(sets_at + 8), plan_literal(0));
    expect_refused(&image, "operation 3 (pipe2): it has arguments");
}

static void rights_are_told(void **state)
{
    (void)state;
    struct image image = make_image();
    assert_false(image_gives_rights(&image));
    ((uint8_t *)image.data.data)[sets_at + 6] = 0x20; /* CAP_SYS_ADMIN */
    assert_true(image_gives_rights(&image));
    image_free(&image);
    image = make_image();
    plan_call(&image.processes[0].threads[0].plan, SYS_prctl, plan_literal(PR_CAP_AMBIENT),
        plan_literal(PR_CAP_AMBIENT_RAISE), plan_literal(21));
    assert_true(image_gives_rights(&image));
    image_free(&image);
}

/* Counts and lengths that go beyond the end, or beyond all limits. */
static void huge_lengths_are_refused(void **state)
{
    (void)state;
    struct image image = make_image();
    CLEANUP_BUFFER struct buffer manifest = {0};
    image_encode(&manifest, &image);
    image_free(&image);
    for (size_t at = 0; at + 4 <= manifest.len; at++) {
        static const uint32_t values[] = {UINT32_MAX, 1u << 31, 1u << 20};
        for (size_t i = 0; i < countof(values); i++) {
            struct image again = {0};
            struct error err = {0};
            uint8_t before[4];
            memcpy(before, manifest.data + at, 4);
            memcpy(manifest.data + at, &values[i], 4);
            if (image_decode(&again, (struct bytes){manifest.data, manifest.len}, &err) == 0)
                image_free(&again);
            else
                assert_true(err.kind == ERROR_CORRUPT || err.kind == ERROR_UNSUPPORTED);
            memcpy(manifest.data + at, before, 4);
        }
    }
    for (size_t len = 0; len < manifest.len; len++) {
        struct image again = {0};
        struct error err = {0};
        assert_int_equal(image_decode(&again, (struct bytes){manifest.data, len}, &err), -1);
        assert_true(err.kind == ERROR_CORRUPT || err.kind == ERROR_UNSUPPORTED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_freeze_makes_is_taken),
        cmocka_unit_test(mappings_are_apart_and_in_order),
        cmocka_unit_test(the_vdso_goes_where_the_list_says),
        cmocka_unit_test(memory_is_touched_only_where_mappings_are),
        cmocka_unit_test(mappings_are_made_as_snapshots_need_them),
        cmocka_unit_test(pages_are_as_many_as_the_stream_has),
        cmocka_unit_test(calls_outside_the_list_are_refused),
        cmocka_unit_test(calls_are_only_in_their_plans),
        cmocka_unit_test(data_is_within_the_data_area),
        cmocka_unit_test(arguments_that_matter_are_checked),
        cmocka_unit_test(registers_and_slots_are_known),
        cmocka_unit_test(no_thread_keeps_rights_unsaid),
        cmocka_unit_test(rights_are_told),
        cmocka_unit_test(huge_lengths_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
