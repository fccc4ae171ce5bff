/* Private to the store. */
#pragma once

#include "store/master.h"

/* Run the command and parse what it prints: see master.h. */
MUST_CHECK int master_run_command(const char *command, uint8_t key[MASTER_KEY_BYTES], struct error *err);
