#include "store/rotate.h"

#include "store/keyring_rotate.h"
#include "store/private.h"

#include <stdio.h>

void store_key_state(const struct store *s, struct store_key_state *state)
{
    const struct keyring_progress *progress = keyring_progress(s->keyring);
    uint8_t id[SEAL_ID_BYTES];
    *state = (struct store_key_state){.unfinished = keyring_has_older(s->keyring),
        .total = progress->total,
        .done = progress->done,
        .damaged = progress->damaged};
    keyring_current_id(s->keyring, id);
    hex_encode(state->key_id, id, sizeof id);
    master_source_text(&s->key_source, state->source);
}

int store_rotate_prepare(struct store *s, struct error *err)
{
    return keyring_prepare(s->keyring, s->data_fd, &s->key_source, err);
}

int store_rotate_begin(struct store *s, struct error *err)
{
    return keyring_begin(s->keyring, s->data_fd, s->store_fd, &s->key_source, err);
}

struct sweep_call {
    struct keyring *ring;
    store_rotate_progress *progress;
    void *context;
};

static int file_rewrapped(void *context, const char *path, struct error *err)
{
    const struct sweep_call *call = context;
    const struct keyring_progress *progress = keyring_progress(call->ring);
    (void)path;
    (void)err;
    if (call->progress != NULL)
        call->progress(call->context, progress->done, progress->total);
    return 0;
}

int store_rotate_sweep(struct store *s, store_rotate_progress *progress, void *context, struct error *err)
{
    struct sweep_call call = {s->keyring, progress, context};
    return keyring_sweep(s->keyring, s->store_fd, file_rewrapped, &call, err);
}

int store_rotate_finish(struct store *s, struct error *err)
{
    return keyring_finish(s->keyring, s->store_fd, err);
}
