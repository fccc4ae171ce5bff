/* thawd: the function server. One binary, three roles. */
#include "base/fault.h"
#include "daemon/role.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct role_options options;
    struct error err = {0};
    const char *armed;
    int status = role_parse_options(&options, argc, argv);
    if (status >= 0)
        return status;
    if (fault_open(&armed, &err) < 0) {
        fprintf(stderr, "thawd: %s\n", err.text);
        return 2;
    }
    if (armed != NULL && !options.front && !options.courier)
        fprintf(stderr, "thawd: a test has armed the fault point %s\n", armed);
    if (options.courier)
        return role_run_courier(&options);
    return options.front ? role_run_front(&options) : role_run_warden(&options, argv);
}
