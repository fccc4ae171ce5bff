#include "store/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

void *scratch_new(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at != MAP_FAILED)
        return at;
    (void)fprintf(stderr, "out of memory\n");
    abort();
}

void scratch_free(void *pointer_to_pointer, size_t bytes)
{
    void *at;
    memcpy(&at, pointer_to_pointer, sizeof at);
    if (at != NULL)
        munmap(at, bytes);
    memset(pointer_to_pointer, 0, sizeof at);
}
