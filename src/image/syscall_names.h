#pragma once

#include <stdint.h>

/* The name of a system call of this architecture, or NULL when it is not one that plans use. */
const char *syscall_name(uint16_t number);
