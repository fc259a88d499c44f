/* synth.h - checkpoints of chance: the tensors of a config.json with random weights, to measure
 * speed and memory on models of true shape without their weights. */
#ifndef WANE_SYNTH_H
#define WANE_SYNTH_H

#include "runtime/model/model.h"

/* Writes the safetensors (and for more than one shard of at most shard_bytes, the index) that
 * DIR/config.json asks for, in bfloat16, with all processors and a few MiB of memory each. The same
 * seed gives the same bytes, however many threads there are. DIR is the caller's to remove on
 * failure. *bytes: of all tensors. poll is a device whose interrupt flag ends it. */
wane_status wane_synth(const char *dir, uint64_t seed, uint64_t shard_bytes,
                       const wane_device *poll, uint64_t *bytes, wane_err *e);

#endif
