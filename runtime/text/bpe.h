/* bpe.h - the tokens of one piece of text. */
#ifndef WANE_TEXT_BPE_H
#define WANE_TEXT_BPE_H

#include "runtime/text/tokenizer.h"
#include "runtime/text/vocab.h"

/* Memory that one call of encode keeps from piece to piece; start with {0}. */
typedef struct bpe_lane bpe_lane;
typedef struct bpe_word bpe_word;
typedef struct {
    bpe_word *words; /* short pieces met before: where their ids stand in the output */
    size_t base;     /* the output's count when the call began */
    int32_t *ids;    /* a long piece, see bpe.c; (room) */
    uint16_t *spans; /* (room) */
    size_t room;
    uint32_t *lane_of; /* (n_merges) 1 + the lane of a rank, 0: none */
    bpe_lane *lanes;
    size_t n_lanes, lanes_room;
    uint64_t *ranks; /* a heap of the lanes that hold something */
    size_t n_ranks, ranks_room;
    uint64_t *late; /* a heap of rank << 32 | position that came out of order */
    size_t n_late, late_room;
} bpe_scratch;

/* Makes a call on `length` bytes of text faster where it is long enough to repeat its words. */
void bpe_start(bpe_scratch *b, size_t length, size_t base);
void bpe_end(bpe_scratch *b);

/* Appends the ids of a piece (well-formed text, 1 to 2^30 bytes) to out. */
wane_status bpe_encode(const vocab *v, bpe_scratch *b, const unsigned char *piece, size_t length,
                       wane_ids *out, wane_err *e);

/* Room for `more` ids. */
wane_status bpe_room(wane_ids *out, size_t more, wane_err *e);

#endif
