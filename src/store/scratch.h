/* Room for a piece of plain text, as large as the largest one. It is a mapping of its own: it costs nothing where it is not
 * touched (neither zeros before nor wiping after, which a process that has just forked would pay for page by page), and when
 * it is freed its contents are the kernel's, which gives no page to anybody before it is wiped. */
#pragma once

#include <stddef.h>

void *scratch_new(size_t bytes); /* zeros */
/* Takes the address of the pointer, which becomes NULL; that it is NULL is fine. */
void scratch_free(void *pointer_to_pointer, size_t bytes);
