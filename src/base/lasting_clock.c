#include "base/lasting_clock.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static uint64_t elapsed_ms(
    const struct lasting_clock *kept, const struct lasting_clock *now, uint64_t gap_max_ms)
{
    bool same_boot = kept->boot_id != 0 && kept->boot_id == now->boot_id && kept->boot_ms <= now->boot_ms;
    if (same_boot)
        return now->boot_ms - kept->boot_ms;
    uint64_t gap_ms = now->wall_ms > kept->wall_ms ? now->wall_ms - kept->wall_ms : 0;
    return gap_ms < gap_max_ms ? gap_ms : gap_max_ms;
}

struct lasting_clock lasting_clock_resume(
    const struct lasting_clock *kept, const struct lasting_clock *now, uint64_t gap_max_ms)
{
    struct lasting_clock resumed = *now;
    resumed.lasting_ms =
        kept->lasting_ms == 0 ? now->wall_ms : kept->lasting_ms + elapsed_ms(kept, now, gap_max_ms);
    return resumed;
}

struct lasting_clock lasting_clock_sample(uint64_t boot_id)
{
    return (struct lasting_clock){
        .wall_ms = clock_wall_ms(), .boot_ms = clock_read_ns(CLOCK_BOOTTIME) / 1000000u, .boot_id = boot_id};
}

/* The kernel's id is 122 random bits: 63 of them, as SQLite has signed numbers, are as good a name. */
uint64_t lasting_clock_boot_id(void)
{
    char text[64] = "", digits[33] = "";
    CLEANUP_FD int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    size_t count = 0;
    for (ssize_t i = 0; i < len && count < 32; i++)
        if (text[i] != '-' && text[i] != '\n')
            digits[count++] = text[i];
    uint8_t id[16];
    if (!hex_decode(id, sizeof id, digits))
        return 0;
    uint64_t name;
    memcpy(&name, id, sizeof name);
    return name & INT64_MAX;
}
