/* Log streams: what is written, what is kept, what is dropped, what is read back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/fd.h"
#include "logs/logs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW_MS 1700000000000u /* 2023-11-14: in the past, as the lines of a file are */

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_logs.XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static struct logs *open_logs(struct logs_options options)
{
    struct error err;
    options.path = folder;
    struct logs *logs = logs_open(&options, &err);
    assert_non_null(logs);
    return logs;
}

static struct logs_stream *open_stream(struct logs *logs, const char *function, const char *version)
{
    struct error err;
    struct logs_stream *stream = logs_stream_new(logs, function, version, NOW_MS, &err);
    assert_non_null(stream);
    return stream;
}

static void print(struct logs_stream *stream, const char *text)
{
    logs_stream_print(stream, NOW_MS, text, strlen(text));
}

static void file_has_stamped_lines(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct logs_stream *stream = open_stream(logs, "pets", "$LATEST");
    assert_memory_equal(logs_stream_name(stream), "2023/11/14/[$LATEST]", 20);
    assert_int_equal(strlen(logs_stream_name(stream)), 20 + 32);
    logs_stream_line(stream, NOW_MS, "START", 5);
    print(stream, "hel");
    print(stream, "lo\nworld\nno newline");
    logs_stream_complete(stream, NOW_MS + 1);
    logs_flush(logs);
    char path[256];
    snprintf(path, sizeof path, "%s/pets/%s.log", folder, logs_stream_name(stream));
    struct error err;
    CLEANUP_BUFFER struct buffer file = {0};
    assert_int_equal(file_read(AT_FDCWD, path, &file, 4096, &err), 0);
    buffer_append_u8(&file, 0);
    assert_string_equal((char *)file.data,
        "1700000000000\tSTART\n1700000000000\thello\n1700000000000\tworld\n1700000000001\tno newline\n");
    logs_stream_free(&stream, NOW_MS);
    logs_close(logs);
}

static void names_that_leave_the_folder_are_refused(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct error err;
    assert_null(logs_stream_new(logs, "../etc", "1", NOW_MS, &err));
    assert_null(logs_stream_new(logs, "f", "1/2", NOW_MS, &err));
    assert_null(logs_stream_new(logs, "", "1", NOW_MS, &err));
    assert_int_equal(logs_read(logs, "../x", 10, NULL, NULL, &err), -1);
    logs_close(logs);
}

static void tail_is_the_last_bytes_since_the_mark(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct logs_stream *stream = open_stream(logs, "pets", "1");
    char tail[LOGS_TAIL_BYTES];
    print(stream, "before\n");
    assert_int_equal(logs_stream_tail(stream, tail), 7);
    logs_stream_mark(stream);
    assert_int_equal(logs_stream_tail(stream, tail), 0);
    print(stream, "one\ntwo\n");
    assert_int_equal(logs_stream_tail(stream, tail), 8);
    assert_memory_equal(tail, "one\ntwo\n", 8);
    for (int i = 0; i < 1000; i++) {
        char line[32];
        snprintf(line, sizeof line, "line %d\n", i);
        print(stream, line);
    }
    assert_int_equal(logs_stream_tail(stream, tail), LOGS_TAIL_BYTES);
    assert_memory_equal(tail + LOGS_TAIL_BYTES - 18, "line 998\nline 999\n", 18);
    CLEANUP_FREE char *huge = xcalloc(1, 3 * LOGS_LINE_BYTES);
    memset(huge, 'x', 3 * LOGS_LINE_BYTES);
    logs_stream_print(stream, NOW_MS, huge, 3 * LOGS_LINE_BYTES);
    print(stream, "end\n");
    assert_int_equal(logs_stream_tail(stream, tail), LOGS_TAIL_BYTES);
    assert_memory_equal(tail + LOGS_TAIL_BYTES - 5, "\nend\n", 5);
    logs_stream_free(&stream, NOW_MS);
    logs_close(logs);
}

static void too_much_is_dropped_and_said(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){.rate_bytes = 1000, .burst_bytes = 100});
    struct logs_stream *stream = open_stream(logs, "pets", "1");
    char line[61];
    memset(line, 'x', 60);
    line[59] = '\n';
    line[60] = '\0';
    for (int i = 0; i < 10; i++)
        print(stream, line);
    char tail[LOGS_TAIL_BYTES + 1];
    assert_int_equal(logs_stream_tail(stream, tail), 60);
    logs_stream_print(stream, NOW_MS + 500, "later\n", 6);
    tail[logs_stream_tail(stream, tail)] = '\0';
    assert_non_null(strstr(tail, "[thaw] 540 bytes of log were dropped here"));
    assert_string_equal(tail + strlen(tail) - 6, "later\n");
    logs_stream_free(&stream, NOW_MS);
    logs_close(logs);
}

static uint64_t folder_bytes(uint32_t *files)
{
    char command[160];
    snprintf(command, sizeof command, "find %s -type f -printf '%%s\\n'", folder);
    FILE *pipe = popen(command, "r");
    unsigned long long size, sum = 0;
    *files = 0;
    while (fscanf(pipe, "%llu", &size) == 1) {
        sum += size;
        (*files)++;
    }
    pclose(pipe);
    return sum;
}

static void disk_use_stays_below_the_limits(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){.file_bytes = 10000,
        .function_bytes = 60000,
        .function_files = 10,
        .rate_bytes = 1u << 30,
        .burst_bytes = 1u << 30});
    struct logs_stream *stream = open_stream(logs, "pets", "1");
    char line[101];
    memset(line, 'x', 99);
    line[99] = '\n';
    line[100] = '\0';
    for (int i = 0; i < 2000; i++) {
        print(stream, line);
        if (i % 10 == 0)
            logs_flush(logs);
    }
    uint32_t files;
    assert_true(folder_bytes(&files) <= 2 * 10000 + 2 * 1200);
    assert_true(files <= 2);
    for (int i = 0; i < 30; i++) {
        struct logs_stream *other = open_stream(logs, "pets", "2");
        for (int j = 0; j < 50; j++)
            print(other, line);
        logs_stream_free(&other, NOW_MS);
    }
    assert_true(folder_bytes(&files) <= 60000 + 10000);
    assert_true(files <= 11);
    print(stream, line);
    logs_forget_function(logs, "pets");
    print(stream, line);
    logs_stream_free(&stream, NOW_MS);
    folder_bytes(&files);
    assert_int_equal(files, 0);
    logs_close(logs);
}

struct seen {
    struct buffer text;
    uint32_t count;
};

static void note_line(void *context, const struct logs_line *line)
{
    struct seen *seen = context;
    seen->count++;
    buffer_printf(&seen->text, "%.*s;", (int)line->text.len, (const char *)line->text.data);
}

static void lines_are_read_back_by_time_over_streams(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct logs_stream *a = open_stream(logs, "pets", "1"), *b = open_stream(logs, "pets", "2");
    struct logs_stream *other = open_stream(logs, "cats", "1");
    logs_stream_line(other, NOW_MS, "cat", 3);
    for (uint64_t i = 0; i < 5; i++) {
        char text[16];
        logs_stream_line(a, NOW_MS + 2 * i, text, (size_t)snprintf(text, sizeof text, "a%d", (int)i));
        logs_stream_line(b, NOW_MS + 2 * i + 1, text, (size_t)snprintf(text, sizeof text, "b%d", (int)i));
    }
    struct error err;
    struct seen seen = {0};
    assert_int_equal(logs_read(logs, "pets", 4, note_line, &seen, &err), 0);
    assert_string_equal((char *)seen.text.data, "a3;b3;a4;b4;");
    buffer_free(&seen.text);
    assert_int_equal(logs_read(logs, "nobody", 4, note_line, &seen, &err), 0);
    assert_int_equal(seen.count, 4);
    logs_stream_free(&a, NOW_MS);
    logs_stream_free(&b, NOW_MS);
    logs_stream_free(&other, NOW_MS);
    logs_close(logs);
}

static void followers_see_their_function_only(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct logs_stream *pets = open_stream(logs, "pets", "1"), *cats = open_stream(logs, "cats", "1");
    struct seen one = {0}, all = {0};
    struct logs_follower *of_pets = logs_follow(logs, "pets", note_line, &one);
    struct logs_follower *of_all = logs_follow(logs, NULL, note_line, &all);
    print(pets, "woof\n");
    print(cats, "meow\n");
    logs_unfollow(&of_pets);
    print(pets, "wuff\n");
    assert_string_equal((char *)one.text.data, "woof;");
    assert_string_equal((char *)all.text.data, "woof;meow;wuff;");
    logs_unfollow(&of_all);
    buffer_free(&one.text);
    buffer_free(&all.text);
    logs_stream_free(&pets, NOW_MS);
    logs_stream_free(&cats, NOW_MS);
    logs_close(logs);
}

static void drain_is_bounded_and_sees_the_end(void **state)
{
    (void)state;
    struct logs *logs = open_logs((struct logs_options){0});
    struct logs_stream *stream = open_stream(logs, "pets", "1");
    int fds[2];
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    assert_int_equal(logs_stream_drain(stream, fds[0], NOW_MS), LOGS_DRAINED_EMPTY);
    assert_int_equal(write(fds[1], "hello\nrest", 10), 10);
    assert_int_equal(logs_stream_drain(stream, fds[0], NOW_MS), LOGS_DRAINED_EMPTY);
    close(fds[1]);
    assert_int_equal(logs_stream_drain(stream, fds[0], NOW_MS), LOGS_DRAINED_END);
    logs_stream_complete(stream, NOW_MS);
    char tail[LOGS_TAIL_BYTES];
    assert_int_equal(logs_stream_tail(stream, tail), 11);
    close(fds[0]);
    logs_stream_free(&stream, NOW_MS);
    logs_close(logs);
}

static void report_is_formatted_as_lambda_does(void **state)
{
    (void)state;
    CLEANUP_BUFFER struct buffer line = {0};
    logs_format_report(&line, &(struct logs_report){.request_id = "R",
                                  .duration_ns = 149530000,
                                  .memory_mb = 512,
                                  .used_mb = 36,
                                  .has_restore = true,
                                  .restore_ns = 511250000,
                                  .billed_restore_ns = 163000000});
    assert_string_equal((char *)line.data,
        "REPORT RequestId: R\tDuration: 149.53 ms\tBilled Duration: 313 ms\tMemory Size: 512 MB\tMax Memory "
        "Used: 36 MB\tRestore Duration: 511.25 ms\tBilled Restore Duration: 163 ms\t");
    line.len = 0;
    logs_format_report(&line, &(struct logs_report){.request_id = "R",
                                  .duration_ns = 3000000000,
                                  .memory_mb = 128,
                                  .used_mb = 30,
                                  .has_init = true,
                                  .init_ns = 98760000,
                                  .status = "error",
                                  .error_type = "Runtime.ExitError"});
    assert_string_equal((char *)line.data,
        "REPORT RequestId: R\tDuration: 3000.00 ms\tBilled Duration: 3000 ms\tMemory Size: 128 MB\tMax "
        "Memory "
        "Used: 30 MB\tInit Duration: 98.76 ms\tStatus: error\tError Type: Runtime.ExitError");
}

#define LOGS_TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOGS_TEST(file_has_stamped_lines),
        LOGS_TEST(names_that_leave_the_folder_are_refused),
        LOGS_TEST(tail_is_the_last_bytes_since_the_mark),
        LOGS_TEST(too_much_is_dropped_and_said),
        LOGS_TEST(disk_use_stays_below_the_limits),
        LOGS_TEST(lines_are_read_back_by_time_over_streams),
        LOGS_TEST(followers_see_their_function_only),
        LOGS_TEST(drain_is_bounded_and_sees_the_end),
        cmocka_unit_test(report_is_formatted_as_lambda_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
