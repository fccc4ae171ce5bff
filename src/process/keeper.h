/* A keeper: the first process of the namespaces that a program lives in. It makes them ready, then sleeps until
 * the program has ended, and ends with it: what the program has left behind ends then, too. Inside the room
 * only. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct keeper {
    pid_t pid;
    int pidfd;  /* names the namespaces */
    int socket; /* until it knows what to wait for */
};
#define KEEPER_NONE ((struct keeper){.pidfd = -1, .socket = -1})

struct keeper_options {
    bool private_network; /* loopback only, else the caller's network */
    bool private_tmp;     /* an empty /tmp of its own, else the caller's */
    bool dies_with_us;
};

/* New pid, mount and ipc namespaces, with a /proc of their own; ready when this returns. */
MUST_CHECK int keeper_start(struct keeper *k, const struct keeper_options *options, struct error *err);
/* The process (by its pidfd) whose end is the keeper's. Without it the keeper ends with us. */
MUST_CHECK int keeper_attend(struct keeper *k, int pidfd, struct error *err);
/* Forks into the keeper's pid namespace; returns as fork does, with a pidfd for the parent. */
MUST_CHECK pid_t keeper_fork(const struct keeper *k, int *pidfd, struct error *err);
/* In that child: the keeper's other namespaces. Working folder is their root then. */
MUST_CHECK int keeper_enter(const struct keeper *k, struct error *err);
/* Kills it, and all that lives in its namespaces; what is a child of ours there must have been reaped. */
void keeper_stop(struct keeper *k);
/* Closes what we hold of it; it lives on. */
void keeper_release(struct keeper *k);
