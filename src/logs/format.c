/* The platform's lines, as Lambda formats them: fields separated by TABs. */
#include "logs/logs.h"

static double as_ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

static unsigned long long ceil_ms(uint64_t ns)
{
    return (ns + 999999) / 1000000;
}

void logs_format_report(struct buffer *out, const struct logs_report *report)
{
    /* A restore is billed in whole milliseconds, and the sum is rounded up: 149.53 + 163 gives 313. */
    uint64_t billed_restore_ns = report->has_restore ? ceil_ms(report->billed_restore_ns) * 1000000 : 0;
    buffer_printf(out, "REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %llu ms\t",
        report->request_id, as_ms(report->duration_ns), ceil_ms(report->duration_ns + billed_restore_ns));
    buffer_printf(out, "Memory Size: %u MB\tMax Memory Used: %u MB\t", report->memory_mb, report->used_mb);
    if (report->has_init)
        buffer_printf(out, "Init Duration: %.2f ms\t", as_ms(report->init_ns));
    if (report->has_restore)
        buffer_printf(out, "Restore Duration: %.2f ms\tBilled Restore Duration: %llu ms\t",
            as_ms(report->restore_ns), ceil_ms(billed_restore_ns));
    if (report->status)
        buffer_printf(out, "Status: %s%s", report->status, report->error_type ? "\t" : "");
    if (report->error_type)
        buffer_printf(out, "Error Type: %s", report->error_type);
}
