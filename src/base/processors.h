#pragma once

#include <stddef.h>

/* On how many processors this thread may run: 1 to `most`. */
size_t processors_usable(size_t most);
