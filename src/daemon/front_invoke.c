/* The life of an invocation: taken in, served by an environment, answered once. Runs in the front. */
#include "daemon/front_private.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

/* ---- outcomes ---- */

static void call_free(struct front_call *call)
{
    struct front *front = call->front;
    free(call);
    front_note_progress(front);
}

/* Hands the outcome to the REST API; the invocation is gone afterwards. */
static void call_finish(struct front_call *call, struct front_env *env, struct lambda_outcome *outcome)
{
    struct lambda_invocation *invocation = steal_pointer(call->invocation);
    char tail[LOGS_TAIL_BYTES];
    CLEANUP_FREE char *trace = NULL;
    outcome->request_id = call->request_id;
    if (env && env->log && invocation->want_log_tail)
        outcome->log_tail = (struct bytes){(const uint8_t *)tail, logs_stream_tail(env->log, tail)};
    if (env && invocation->want_trace && call->answered_ns) {
        call->invocation = invocation;
        trace = front_trace_json(env, call);
        call->invocation = NULL;
        outcome->trace_json = trace;
    }
    invocation->finish(invocation, outcome);
}

/* An answer of the function itself: the environment goes on. The client's answer leaves before the log is
 * written, unless it carries the log. A handler's own error is no failure of the environment: REPORT has no
 * status. */
static void call_answer(struct front_call *call, struct lambda_outcome *outcome)
{
    struct front_env *env = call->env;
    call->answered_ns = clock_monotonic_ns();
    bool log_first = call->invocation->want_log_tail;
    if (log_first)
        front_log_end(env, call, NULL, NULL);
    call_finish(call, env, outcome);
    if (!log_first)
        front_log_end(env, call, NULL, NULL);
    front_env_answered(env);
    dispatch_call_finished(call->front->dispatch, &call->dispatch, clock_monotonic_ns());
    front_set_tick(call->front);
    call_free(call);
}

void front_call_succeed(struct front_call *call, struct bytes body)
{
    struct lambda_outcome outcome = {.kind = LAMBDA_OUTCOME_RESULT, .payload = body};
    call_answer(call, &outcome);
}

void front_call_function_error(struct front_call *call, struct bytes body)
{
    struct lambda_outcome outcome = {.kind = LAMBDA_OUTCOME_FUNCTION_ERROR, .payload = body};
    call_answer(call, &outcome);
}

char *front_failure_body(const struct front_failure *failure, const char *request_id)
{
    if (failure->body.len > 0)
        return xstrndup((const char *)failure->body.data, failure->body.len);
    CLEANUP_FREE char *message = xasprintf("RequestId: %s Error: %s", request_id, failure->message);
    json_t *body = json_pack("{s:s, s:s}", "errorType", failure->type, "errorMessage", message);
    char *text = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    return text ? text : xstrdup("{}");
}

/* What people find in the log about a call that ended with its environment. */
static void log_failure(
    struct front_env *env, const struct front_call *call, const struct front_failure *failure)
{
    uint64_t now_ms = clock_wall_ms();
    CLEANUP_BUFFER struct buffer line = {0};
    front_env_drain_log(env);
    logs_stream_complete(env->log, now_ms);
    if (failure->status && strcmp(failure->status, "timeout") == 0) {
        time_t seconds = (time_t)(now_ms / 1000);
        struct tm utc;
        char stamp[32];
        gmtime_r(&seconds, &utc);
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
        buffer_printf(
            &line, "%s.%03uZ %s %s", stamp, (unsigned)(now_ms % 1000), call->request_id, failure->message);
    } else if (failure->body.len == 0) {
        buffer_printf(&line, "RequestId: %s Error: %s", call->request_id, failure->message);
        logs_stream_line(env->log, now_ms, (const char *)line.data, line.len);
        line.len = 0;
        buffer_printf(&line, "%s", failure->type);
    }
    if (line.len > 0)
        logs_stream_line(env->log, now_ms, (const char *)line.data, line.len);
}

static void answer_failure(
    struct front_call *call, struct front_env *env, const struct front_failure *failure)
{
    CLEANUP_FREE char *body = front_failure_body(failure, call->request_id);
    struct lambda_outcome outcome = {
        .kind = LAMBDA_OUTCOME_FUNCTION_ERROR,
        .payload = {(const uint8_t *)body, strlen(body)},
    };
    log_failure(env, call, failure);
    front_log_end(env, call, failure->status, failure->type);
    call_finish(call, env, &outcome);
}

void front_call_break(struct front_call *call, const struct front_failure *failure)
{
    struct front_env *env = call->env;
    call->answered_ns = clock_monotonic_ns();
    answer_failure(call, env, failure);
    env->call = NULL;
    dispatch_call_broke(call->front->dispatch, &call->dispatch, clock_monotonic_ns());
    call_free(call);
}

void front_call_run_again(struct front_call *call, bool hopeless)
{
    struct front_env *env = call->env;
    /* An environment that was there at the first time may be lost with the same template: that is no second time. */
    bool again = call->lost_up_to_env != 0 && env->id > call->lost_up_to_env;
    bool refused = hopeless || again;
    struct front_failure failure = {
        .type = "Sandbox.PagesLost", .status = "error", .http_status = refused ? 500 : 0};
    snprintf(failure.message, sizeof failure.message, "its environment lost pages of its memory: %s%s",
        env->lost.text, refused ? "" : "; it is run again in another");
    call->answered_ns = clock_monotonic_ns();
    log_failure(env, call, &failure);
    front_log_end(env, call, failure.status, failure.type);
    env->call = NULL;
    dispatch_call_broke(call->front->dispatch, &call->dispatch, clock_monotonic_ns());
    if (refused) {
        failure.type = "ServiceException";
        front_call_refuse(call, &failure);
        return;
    }
    if (call->lost_up_to_env == 0)
        call->lost_up_to_env = call->front->next_env_id - 1;
    call->delivered_ns = call->answered_ns = 0;
    front_call_submit(call);
}

void front_call_lose(struct front_call *call, struct front_env *env, const struct front_failure *failure)
{
    if (failure->http_status) {
        front_call_refuse(call, failure);
        return;
    }
    front_log_start(env, call);
    answer_failure(call, env, failure);
    call_free(call);
}

void front_call_refuse(struct front_call *call, const struct front_failure *failure)
{
    struct lambda_outcome outcome = {
        .kind = LAMBDA_OUTCOME_REFUSED,
        .http_status = failure->http_status,
        .error_type = failure->type,
        .message = failure->message,
    };
    call_finish(call, NULL, &outcome);
    call_free(call);
}

static void refuse_rate(struct front_call *call)
{
    struct lambda_outcome outcome = {
        .kind = LAMBDA_OUTCOME_REFUSED,
        .http_status = 429,
        .error_type = "TooManyRequestsException",
        .message = "Rate Exceeded.",
        .reason = "ConcurrentInvocationLimitExceeded",
    };
    call_finish(call, NULL, &outcome);
    call_free(call);
}

/* In the words of Lambda, which are Go's: "signal: killed". */
static void describe_signal(char *out, size_t size, int number)
{
    const char *name = strsignal(number);
    snprintf(out, size, "Runtime exited with error: signal: %s", name ? name : "unknown");
    char *first = out + strlen("Runtime exited with error: signal: ");
    if (*first >= 'A' && *first <= 'Z')
        *first = (char)(*first - 'A' + 'a');
}

void front_failure_of_exit(struct front_failure *failure, const struct front_env *env)
{
    *failure = (struct front_failure){.type = "Runtime.ExitError", .status = "error"};
    if (env->out_of_memory)
        failure->type = "Runtime.OutOfMemory";
    if (WIFSIGNALED(env->wait_status))
        describe_signal(failure->message, sizeof failure->message, WTERMSIG(env->wait_status));
    else if (WEXITSTATUS(env->wait_status) != 0)
        snprintf(failure->message, sizeof failure->message, "Runtime exited with error: exit status %d",
            WEXITSTATUS(env->wait_status));
    else
        snprintf(failure->message, sizeof failure->message, "Runtime exited without providing a reason");
}

/* ---- taking in ---- */

void front_call_delivered(struct front_call *call)
{
    call->delivered_ns = clock_monotonic_ns();
}

void front_call_submit(struct front_call *call)
{
    struct front *front = call->front;
    call->env = NULL;
    struct dispatch_pool *pool = call->version->pool;
    if (dispatch_call_submit(front->dispatch, pool, &call->dispatch, clock_monotonic_ns()) !=
        DISPATCH_ACCEPTED)
        refuse_rate(call);
    else
        front_set_tick(front);
}

/* The REST API resolves only versions that may run; what is wrong here became so since. */
static bool refuse_unready(struct front_call *call, const struct catalog_function *function)
{
    struct front_failure failure = {0};
    if (call->front->draining) {
        failure = (struct front_failure){.type = "ServiceException", .http_status = 503};
        snprintf(failure.message, sizeof failure.message, "The server is shutting down.");
    } else if (call->version->retired) {
        failure = (struct front_failure){.type = "ResourceConflictException", .http_status = 409};
        snprintf(failure.message, sizeof failure.message,
            "The operation cannot be performed at this time. An update is in progress for resource: %s",
            function->qualified_arn);
    } else if (function->state == CATALOG_FAILED) {
        failure = (struct front_failure){.type = "ResourceConflictException", .http_status = 409};
        snprintf(failure.message, sizeof failure.message,
            "The operation cannot be performed at this time. The function is currently in the following "
            "state: "
            "Failed");
    } else if (function->state == CATALOG_PENDING) {
        front_refuse_not_ready(&failure);
    } else if (function->state == CATALOG_INACTIVE) {
        front_wake(call->version, &failure);
    }
    if (!failure.http_status)
        return false;
    front_call_refuse(call, &failure);
    return true;
}

void front_invoke(void *context, struct lambda_invocation *invocation)
{
    struct front *front = context;
    struct front_call *call = xcalloc(1, sizeof *call);
    call->front = front;
    call->invocation = invocation;
    memcpy(call->request_id, invocation->request_id, sizeof call->request_id);
    call->version = front_version_of(front, invocation->function);
    front->invocations++;
    front_use_mark(call->version);
    if (!refuse_unready(call, invocation->function))
        front_call_submit(call);
}
