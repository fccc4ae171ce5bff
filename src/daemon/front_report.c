/* The platform's lines in a function's log, and the trace of one invocation. Runs in the front. */
#include "daemon/front_private.h"
#include "image/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct buffer scratch; /* kept: each invocation writes three lines */

static void log_scratch(struct front_env *env)
{
    if (env->log)
        logs_stream_line(env->log, clock_wall_ms(), (const char *)scratch.data, scratch.len);
    scratch.len = 0;
}

static double as_ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static uint64_t since(uint64_t later_ns, uint64_t earlier_ns)
{
    return earlier_ns && later_ns > earlier_ns ? later_ns - earlier_ns : 0;
}

void front_log_start_of_env(struct front_env *env)
{
    const struct catalog_function *function = env->version->function;
    buffer_printf(&scratch,
        "%s Runtime Version: %s.thaw-" THAW_VERSION "\tRuntime Version ARN: arn:aws:lambda:%s::runtime:%s",
        env->mode == WIRE_THAW ? "RESTORE_START" : "INIT_START", function->config.runtime,
        env->front->options->region, function->config.runtime);
    log_scratch(env);
}

static uint64_t init_ns(const struct front_env *env)
{
    uint64_t began_ns = env->stamp_ns[WIRE_STAMP_FORKED];
    uint64_t all_ns =
        since(env->ready_ns ? env->ready_ns : clock_monotonic_ns(), began_ns ? began_ns : env->started_ns);
    uint64_t primed_ns = front_prime_spent_ns(env); /* events tell their own time */
    return all_ns > primed_ns ? all_ns - primed_ns : 0;
}

static uint64_t restore_ns(const struct front_env *env)
{
    return since(env->ready_ns ? env->ready_ns : clock_monotonic_ns(), env->asked_ns);
}

void front_log_init_report(
    struct front_env *env, const char *phase, const char *status, const char *error_type)
{
    buffer_printf(&scratch, "INIT_REPORT Init Duration: %.2f ms", as_ms(init_ns(env)));
    if (phase)
        buffer_printf(&scratch, "\tPhase: %s\tStatus: %s", phase, status);
    if (error_type)
        buffer_printf(&scratch, "\tError Type: %s", error_type);
    log_scratch(env);
}

void front_log_restore_report(struct front_env *env, const char *status, const char *error_type)
{
    buffer_printf(&scratch, "RESTORE_REPORT Restore Duration: %.2f ms", as_ms(restore_ns(env)));
    if (status)
        buffer_printf(&scratch, "\tStatus: %s", status);
    if (error_type)
        buffer_printf(&scratch, "\tError Type: %s", error_type);
    log_scratch(env);
}

void front_log_start(struct front_env *env, const struct front_call *call)
{
    buffer_printf(
        &scratch, "START RequestId: %s Version: %s", call->request_id, env->version->function->version);
    log_scratch(env);
}

/* Events to be primed with have lines of their own, so that nobody takes them for invocations: nobody made
 * them, and nothing is billed. */
void front_log_prime_start(struct front_env *env, const char *request_id, size_t number, size_t count)
{
    buffer_printf(&scratch, "PRIME_START RequestId: %s Event: %zu of %zu", request_id, number, count);
    log_scratch(env);
}

void front_log_prime_report(
    struct front_env *env, const char *request_id, uint64_t took_ns, const char *error_type)
{
    front_env_drain_log(env);
    if (env->log)
        logs_stream_complete(env->log, clock_wall_ms());
    buffer_printf(&scratch, "PRIME_REPORT RequestId: %s\tDuration: %.2f ms", request_id, as_ms(took_ns));
    if (error_type)
        buffer_printf(&scratch, "\tStatus: error\tError Type: %s", error_type);
    log_scratch(env);
}

void front_log_prime_passed_over(struct front_env *env, size_t count)
{
    buffer_printf(&scratch,
        "PRIME_REPORT Events: %zu\tStatus: not run, as the runtime asked restore/next before any event",
        count);
    log_scratch(env);
}

/* The peak of the sandbox and what it shares with its template, in MB rounded up, at most what it may use. */
static uint32_t memory_used_mb(const struct front_env *env)
{
    char digits[32] = "";
    if (env->fd[WIRE_FD_MEMORY] >= 0 && pread(env->fd[WIRE_FD_MEMORY], digits, sizeof digits - 1, 0) < 0)
        digits[0] = '\0';
    uint64_t bytes = strtoull(digits, NULL, 10) + env->shared_bytes;
    uint64_t used_mb = (bytes + (1u << 20) - 1) >> 20;
    uint32_t limit_mb = env->version->function->config.memory_mb;
    return used_mb > limit_mb ? limit_mb : (uint32_t)used_mb;
}

void front_log_end(
    struct front_env *env, const struct front_call *call, const char *status, const char *error_type)
{
    front_env_drain_log(env);
    if (!env->log)
        return;
    logs_stream_complete(env->log, clock_wall_ms());
    buffer_printf(&scratch, "END RequestId: %s", call->request_id);
    log_scratch(env);
    bool first = env->invocations <= 1;
    struct logs_report report = {
        .request_id = call->request_id,
        .duration_ns = since(call->answered_ns, call->delivered_ns),
        .memory_mb = env->version->function->config.memory_mb,
        .used_mb = memory_used_mb(env),
        .has_init = first && env->mode == WIRE_COLD && env->ready_ns,
        .has_restore = first && env->mode == WIRE_THAW && env->ready_ns,
        .init_ns = init_ns(env),
        .restore_ns = restore_ns(env),
        .billed_restore_ns = since(env->ready_ns, env->spoke_ns),
        .status = status,
        .error_type = status && strcmp(status, "error") == 0 ? error_type : NULL,
    };
    logs_format_report(&scratch, &report);
    log_scratch(env);
}

/* ---- the trace ---- */

static void phase(struct buffer *out, const char *name, uint64_t later_ns, uint64_t earlier_ns)
{
    if (later_ns && earlier_ns)
        buffer_printf(out, ",\"%s\":%.1f", name, (double)since(later_ns, earlier_ns) / 1e3);
}

static void trace_report(struct buffer *out, struct front_env *env)
{
    struct plan_report report;
    if (!front_env_read_report(env, &report))
        return;
    phase(out, "first_run", report.forked_ns, env->stamp_ns[WIRE_STAMP_SANDBOX]);
    phase(out, "enter_sandbox", report.sandboxed_ns, report.forked_ns);
    phase(out, "descriptors", report.descriptors_ns, report.sandboxed_ns);
    phase(out, "threads", report.threads_ns, report.descriptors_ns);
    phase(out, "first_word", env->spoke_ns, report.threads_ns);
}

/* How the environment that serves this call came to be, step by step. */
static void trace_start(struct buffer *out, struct front_env *env, const struct front_call *call)
{
    const uint64_t *stamp = env->stamp_ns;
    phase(out, "dispatch", env->asked_ns, call->invocation->started_ns);
    phase(out, "ask_warden", stamp[WIRE_STAMP_RECEIVED], env->asked_ns);
    phase(out, "template", stamp[WIRE_STAMP_TEMPLATE_READY], stamp[WIRE_STAMP_TEMPLATE_BEGIN]);
    phase(out, "template_fork", stamp[WIRE_STAMP_TEMPLATE_FORKED], stamp[WIRE_STAMP_TEMPLATE_BEGIN]);
    phase(out, "template_map", stamp[WIRE_STAMP_TEMPLATE_MAPPED], stamp[WIRE_STAMP_TEMPLATE_FORKED]);
    phase(out, "template_hot", stamp[WIRE_STAMP_TEMPLATE_READY], stamp[WIRE_STAMP_TEMPLATE_MAPPED]);
    uint64_t prepared_ns =
        stamp[WIRE_STAMP_TEMPLATE_READY] ? stamp[WIRE_STAMP_TEMPLATE_READY] : stamp[WIRE_STAMP_RECEIVED];
    phase(out, "sandbox", stamp[WIRE_STAMP_SANDBOX], prepared_ns);
    phase(out, "fork", stamp[WIRE_STAMP_FORKED], stamp[WIRE_STAMP_SANDBOX]);
    phase(out, "tell_front", env->started_ns, stamp[WIRE_STAMP_FORKED]);
    trace_report(out, env);
    phase(out, env->mode == WIRE_THAW ? "connected" : "init", env->spoke_ns, env->started_ns);
    phase(out, "after_restore", env->ready_ns, env->restored_ns);
}

/* Page faults of the process since it began (proc_pid_stat(5): minflt and majflt, fields 10 and 12). */
static void trace_faults(struct buffer *out, const struct front_env *env)
{
    char text[1024];
    unsigned long minor, major;
    ssize_t n = env->fd[WIRE_FD_STAT] < 0 ? -1 : pread(env->fd[WIRE_FD_STAT], text, sizeof text - 1, 0);
    if (n <= 0)
        return;
    text[n] = '\0';
    const char *after_name = strrchr(text, ')');
    if (after_name && sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor, &major) == 2)
        buffer_printf(out, ",\"faults\":%lu", minor + major);
}

char *front_trace_json(struct front_env *env, const struct front_call *call)
{
    struct buffer out = {0};
    uint64_t began_ns = call->invocation->started_ns;
    bool started_for_it = env->invocations == 1 && env->asked_ns >= began_ns;
    const char *start = "warm";
    if (started_for_it && env->mode == WIRE_COLD)
        start = "cold";
    else if (started_for_it)
        start = env->stamp_ns[WIRE_STAMP_TEMPLATE_BEGIN] ? "first" : "thaw";
    buffer_printf(&out, "{\"start\":\"%s\"", start);
    if (started_for_it)
        trace_start(&out, env, call);
    if (started_for_it)
        trace_faults(&out, env);
    phase(&out, "event", call->delivered_ns, began_ns);
    phase(&out, "function", call->answered_ns, call->delivered_ns);
    phase(&out, "total", clock_monotonic_ns(), began_ns);
    buffer_printf(&out, "}");
    return (char *)out.data;
}
