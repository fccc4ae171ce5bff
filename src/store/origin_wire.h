/* The messages between the courier and its clients: SOCK_SEQPACKET, one message a packet, encoded with base/bytes. Both
 * sides trust nothing of it: every field is checked.
 *
 *   control socket, client -> courier:  one byte ORIGIN_WIRE_HELLO and a descriptor: the courier's end of a pair
 *   that pair, client -> courier:       struct origin_wire_request (+ a descriptor with ORIGIN_STORE)
 *              courier -> client:       struct origin_wire_reply (+ a descriptor with ORIGIN_FETCH), one for each request; or one
 *                                       with id 0: still at work */
#pragma once

#include "store/origin.h"

#define ORIGIN_WIRE_BYTES 65536 /* the longest message */
#define ORIGIN_WIRE_HELLO 'H'

struct origin_wire_request {
    uint64_t id; /* not 0; comes back */
    enum origin_verb verb;
    unsigned flags;
    uint64_t bytes_max, before_ns;
    char name[ORIGIN_NAME_MAX + 1];
    char after[ORIGIN_NAME_MAX + 1];
};

struct origin_wire_reply {
    uint64_t id;
    struct error error; /* kind and text travel */
    uint64_t bytes, modified_s;
    bool more;
    struct origin_entry *entries; /* decoded: for the caller to free */
    size_t entry_count;
};

void origin_wire_encode_request(struct buffer *out, const struct origin_wire_request *request);
MUST_CHECK int origin_wire_decode_request(
    struct origin_wire_request *request, struct bytes packet, struct error *err);
void origin_wire_encode_reply(struct buffer *out, const struct origin_wire_reply *reply);
MUST_CHECK int origin_wire_decode_reply(
    struct origin_wire_reply *reply, struct bytes packet, struct error *err);
