/* Sizes. */
#include "store/ledger.h"
#include "store/upkeep.h"

#include <stdlib.h>
#include <string.h>

static void measure_chunks(const struct ledger *ledger, struct store_totals *totals)
{
    for (size_t i = 0; i < ledger->chunk_count; i++) {
        const struct ledger_chunk *chunk = &ledger->chunks[i];
        totals->stored_bytes += chunk->stored_bytes;
        if (chunk->plain_bytes == 0) {
            totals->unreferenced_chunks++;
            totals->unreferenced_bytes += chunk->stored_bytes;
            continue;
        }
        totals->chunks++;
        totals->plain_bytes += chunk->plain_bytes;
        if (chunk->here) {
            totals->chunk_bytes += chunk->stored_bytes;
            totals->local_plain_bytes += chunk->plain_bytes;
        } else {
            totals->absent_chunks++;
            totals->absent_bytes += chunk->plain_bytes;
        }
    }
}

static void measure_snapshot(
    const struct ledger *ledger, const struct ledger_snapshot *snapshot, struct store_snapshot_sizes *sizes)
{
    *sizes = (struct store_snapshot_sizes){.logical_bytes = snapshot->logical_bytes,
        .chunks = snapshot->chunk_count,
        .file_bytes = snapshot->file_bytes};
    memcpy(sizes->id, snapshot->id, sizeof sizes->id);
    for (size_t i = 0; i < snapshot->chunk_count; i++) {
        const struct ledger_chunk *chunk = &ledger->chunks[snapshot->chunks[i]];
        if (chunk->shared)
            sizes->shared_bytes += chunk->stored_bytes;
        else
            sizes->own_bytes += chunk->stored_bytes;
    }
}

int store_measure(struct store *store, store_each_sizes *each, void *context, struct store_totals *totals,
    struct error *err)
{
    CLEANUP_LEDGER struct ledger ledger = {0};
    *totals = (struct store_totals){0};
    if (ledger_note_snapshots(&ledger, store, err) < 0 || ledger_note_chunks(&ledger, store, err) < 0)
        return -1;
    measure_chunks(&ledger, totals);
    for (size_t i = 0; i < ledger.snapshot_count; i++) {
        const struct ledger_snapshot *snapshot = &ledger.snapshots[i];
        struct store_snapshot_sizes sizes;
        measure_snapshot(&ledger, snapshot, &sizes);
        totals->snapshots++;
        totals->unreadable_snapshots += !snapshot->readable;
        totals->logical_bytes += snapshot->logical_bytes;
        totals->file_bytes += snapshot->file_bytes;
        totals->stored_bytes += snapshot->file_bytes;
        each(context, &sizes);
    }
    return 0;
}
