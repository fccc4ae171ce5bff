/* A command that runs in a keeper's namespaces, with pipes for its standard streams, which this process stands
 * between: bytes and signals are passed on. Inside the room only. */
#pragma once

#include "base/bytes.h"
#include "process/keeper.h"

#include <regex.h>
#include <signal.h>
#include <stdint.h>

#define COMMAND_LOOKBACK_BYTES (64u << 10) /* of each stream, that the regular expression can see */
#define COMMAND_SETTLE_MS 500              /* at most so long is waited for it to go to sleep */

struct command {
    struct keeper keeper;
    pid_t pid; /* 0: none, or reaped */
    int pidfd;
    int ends[3];           /* ours, of the pipes of stdin, stdout, stderr; -1 when closed */
    bool reads_own_stdin;  /* until its end */
    struct buffer unsent;  /* what came in and the command's pipe has not taken yet */
    struct buffer seen[3]; /* the last output, when somebody looks for something in it */
    int signals;           /* a signalfd */
    sigset_t mask_before;
    const regex_t *wanted; /* NULL: nothing */
    bool matched;
};

/* Starts it. The error's kind is ERROR_INVALID with the errno of execve when it cannot be run. */
MUST_CHECK int command_start(
    struct command *c, char *const *argv, const struct keeper_options *options, struct error *err);
/* Passes on until the wanted output came, the time (CLOCK_MONOTONIC; 0: none) is there, or the command has
 * ended: then *ended is true and *status its status. */
MUST_CHECK int command_pump(
    struct command *c, uint64_t until_ns, bool *ended, int *status, struct error *err);
/* Passes on for a moment, until all threads of it and its children sleep. */
MUST_CHECK int command_settle(struct command *c, bool *ended, int *status, struct error *err);
/* Passes on what it has written already. */
void command_drain(struct command *c);
/* Kills it and everything in its namespaces. */
void command_free(struct command *c);

/* Signals that are passed on are blocked and come through the signalfd that is returned. */
MUST_CHECK int signals_take(sigset_t *mask_before, struct error *err);
/* The next one is sent on to each of these processes. */
void signals_pass(int signals, const int *pidfds, size_t count);
/* As a shell has it, of what waitid says. */
int status_of(const siginfo_t *end);
