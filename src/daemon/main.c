/* thawd: the function server. One binary, two roles. */
#include "daemon/role.h"

int main(int argc, char **argv)
{
    struct role_options options;
    int status = role_parse_options(&options, argc, argv);
    if (status >= 0)
        return status;
    return options.front ? role_run_front(&options) : role_run_warden(&options, argv);
}
