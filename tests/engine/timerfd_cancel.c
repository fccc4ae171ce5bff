/* conformance: timers and clocks | a timerfd that is cancelled when the clock is set (`TFD_TIMER_CANCEL_ON_SET`) | kept | armed the same way again; the thaw itself does not cancel it
 *
 * Whether it is still armed so is said by fdinfo. */
#include "help.h"

#include <sys/timerfd.h>
#include <time.h>

int main(void)
{
    char path[64], text[512] = {0};
    uint64_t ticks;
    struct itimerspec when = {{0, 0}, {0, 0}}, left;
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    CHECK(clock_gettime(CLOCK_REALTIME, &when.it_value) == 0);
    when.it_value.tv_sec += 3600;
    CHECK(timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &when, NULL) == 0);

    test_freeze_point();
    CHECK(read(fd, &ticks, 8) < 0 && errno == EAGAIN);
    CHECK(timerfd_gettime(fd, &left) == 0 && left.it_value.tv_sec > 3000 && left.it_value.tv_sec <= 3600);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    int info = open(path, O_RDONLY);
    CHECK(read(info, text, sizeof text - 1) > 0);
    CHECK(strstr(text, "settime flags: 03") && strstr(text, "clockid: 0"));
    return 0;
}
