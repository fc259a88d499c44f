/* bpe.c - byte pair encoding: always the pair of the lowest rank, the leftmost of equals, until no
 * neighbours merge (Sennrich, Haddow, Birch 2016, arXiv:1508.07909, algorithm 1, by rank).
 *
 * A piece begins as symbols: its bytes, or where contents are text its characters, each of which
 * may be bytes or unknown. A piece of text without a pre-tokenizer is the whole text; where no
 * merge reaches over the places before a "▁" it is cut there, which changes nothing but the time.
 *
 * Three ways to the same ids. A short piece met before in this call is copied from the output. A
 * piece of at most SHORT bytes keeps its pairs' ranks in an array that is searched for the
 * smallest. A longer one would take quadratic time so, and has a queue instead:
 *
 *   ids[i]    what the i-th first symbol has become the first part of, -1 where it is a later part
 *   spans[i]  how many it spans, at the first of them and again at the last, so that both
 *             neighbours are found without links
 *   lanes     one for each rank waiting: positions in rising order. Merging a rank from left to
 *             right makes new pairs from left to right, so nearly all arrive in order and cost O(1)
 *   late      a heap for those that do not
 *
 * An entry is stale when the symbols at its position have changed; then their pair has another
 * rank. O(n log n) in the worst case; 6 bytes of memory for each byte of text and 4 for each
 * waiting pair. */
#include "runtime/text/bpe.h"

#include <stdlib.h>
#include <string.h>

enum {
    SHORT = 128,
    WORD_BYTES = 15,
    WORD_SLOTS = 1 << 14,
    REPEATS_FROM = 2048,
    LANE_KEPT = 1 << 16
};

struct bpe_lane {
    uint32_t rank, *at;
    size_t first, count, room;
};

struct bpe_word {
    uint64_t key[2]; /* the bytes, zeros, and in the last one the length; 0: free */
    uint32_t start, count;
};

wane_status bpe_room(wane_ids *out, size_t more, wane_err *e)
{
    if (out->room - out->count >= more) return WANE_OK;
    size_t room = out->count + more > out->room * 2 ? out->count + more : out->room * 2;
    int32_t *ids = realloc(out->ids, room * sizeof *ids);
    if (!ids) return wane_fail(e, WANE_EOOM, "no memory for %zu token ids", room);
    out->ids = ids;
    out->room = room;
    return WANE_OK;
}

void bpe_start(bpe_scratch *b, size_t length, size_t base)
{
    b->base = base;
    if (length >= REPEATS_FROM)
        b->words = calloc(WORD_SLOTS, sizeof *b->words); /* NULL: does without */
}

void bpe_end(bpe_scratch *b)
{
    for (size_t i = 0; i < b->lanes_room; i++) free(b->lanes[i].at);
    free(b->words);
    free(b->ids);
    free(b->spans);
    free(b->lane_of);
    free(b->lanes);
    free(b->ranks);
    free(b->late);
    memset(b, 0, sizeof *b);
}

static uint32_t rank_of(const vocab *v, int32_t left, int32_t right)
{
    const vocab_merge *m = vocab_pair(v, left, right);
    return m ? m->rank : VOCAB_NONE;
}

/* The bytes of a character as tokens; 0 where one of them is none. */
static size_t fall_back(const vocab *v, const unsigned char *s, size_t length, int32_t *ids)
{
    for (size_t i = 0; i < length; i++)
        if ((ids[i] = v->byte_id[s[i]]) < 0) return 0;
    return length;
}

/* The symbols that a piece begins as, at most `length`; how many. As in the library an unknown
 * character waits for the next that is known, and bytes go before it meanwhile. */
static size_t first_symbols(const vocab *v, const unsigned char *piece, size_t length, int32_t *ids)
{
    size_t n = 0;
    bool waiting = false;
    if (!v->decoder) {
        for (; n < length; n++) ids[n] = v->byte_id[piece[n]];
        return n;
    }
    for (size_t at = 0, next; at < length; at = next) {
        unicode_step(piece, at, &next);
        int32_t id = vocab_find_text(v, piece + at, next - at);
        if (id >= 0) {
            if (waiting) ids[n++] = v->unknown;
            waiting = false;
            ids[n++] = id;
            continue;
        }
        size_t bytes = v->byte_fallback ? fall_back(v, piece + at, next - at, ids + n) : 0;
        n += bytes;
        if (bytes) continue;
        if (waiting && !v->fuse_unknown) ids[n++] = v->unknown;
        waiting = true;
    }
    if (waiting) ids[n++] = v->unknown;
    return n;
}

/* n at most SHORT: ids and the ranks of neighbours side by side, closed up after each merge. */
static size_t merge_short(const vocab *v, int32_t *ids, size_t n)
{
    uint32_t ranks[SHORT];
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = rank_of(v, ids[i], ids[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == VOCAB_NONE) break;
        ids[best] = (int32_t)vocab_pair(v, ids[best], ids[best + 1])->id;
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        if (best + 1 < n) {
            memmove(ranks + best + 1, ranks + best + 2, (n - best - 2) * sizeof *ranks);
            ranks[best] = rank_of(v, ids[best], ids[best + 1]);
        }
        if (best) ranks[best - 1] = rank_of(v, ids[best - 1], ids[best]);
    }
    return n;
}

static wane_status grow(void **list, size_t *room, size_t need, size_t size, wane_err *e)
{
    if (need <= *room) return WANE_OK;
    size_t more = *room + *room / 2;
    size_t want = more > need ? more : need < 16 ? 16 : need;
    void *bigger = realloc(*list, want * size);
    if (!bigger) return wane_fail(e, WANE_EOOM, "no memory to encode a long piece of text");
    *list = bigger;
    *room = want;
    return WANE_OK;
}

/* A binary heap, smallest first. */
static void heap_push(uint64_t *heap, size_t count, uint64_t item)
{
    size_t i = count;
    for (; i && heap[(i - 1) / 2] > item; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = item;
}

static void heap_pop(uint64_t *heap, size_t left) /* left: how many stay */
{
    uint64_t item = heap[left];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < left; i = child) {
        if (child + 1 < left && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= item) break;
        heap[i] = heap[child];
    }
    heap[i] = item;
}

static wane_status push(bpe_scratch *b, uint32_t rank, uint32_t at, wane_err *e)
{
    wane_status s;
    if (!b->lane_of[rank]) {
        size_t had = b->lanes_room;
        if ((s = grow((void **)&b->lanes, &b->lanes_room, b->n_lanes + 1, sizeof *b->lanes, e)))
            return s;
        memset(b->lanes + had, 0, (b->lanes_room - had) * sizeof *b->lanes);
        bpe_lane *fresh = &b->lanes[b->n_lanes++];
        fresh->rank = rank;
        fresh->first = fresh->count = 0;
        b->lane_of[rank] = (uint32_t)b->n_lanes;
    }
    bpe_lane *lane = &b->lanes[b->lane_of[rank] - 1];
    if (lane->count > lane->first && lane->at[lane->count - 1] > at) {
        if ((s = grow((void **)&b->late, &b->late_room, b->n_late + 1, sizeof *b->late, e)))
            return s;
        heap_push(b->late, b->n_late++, (uint64_t)rank << 32 | at);
        return WANE_OK;
    }
    bool waiting = lane->count > lane->first;
    if (!waiting) {
        lane->first = lane->count = 0;
        if ((s = grow((void **)&b->ranks, &b->ranks_room, b->n_ranks + 1, sizeof *b->ranks, e)))
            return s;
    }
    if ((s = grow((void **)&lane->at, &lane->room, lane->count + 1, sizeof *lane->at, e))) return s;
    lane->at[lane->count++] = at;
    if (!waiting) heap_push(b->ranks, b->n_ranks++, rank);
    return WANE_OK;
}

static bool pop(bpe_scratch *b, uint32_t *rank, uint32_t *at)
{
    bpe_lane *lane = b->n_ranks ? &b->lanes[b->lane_of[b->ranks[0]] - 1] : NULL;
    uint64_t first = lane ? (uint64_t)lane->rank << 32 | lane->at[lane->first] : UINT64_MAX;
    if (b->n_late && b->late[0] < first) {
        first = b->late[0];
        heap_pop(b->late, --b->n_late);
    } else if (!lane) {
        return false;
    } else if (++lane->first == lane->count) {
        heap_pop(b->ranks, --b->n_ranks);
        if (lane->room > LANE_KEPT) {
            free(lane->at);
            lane->at = NULL;
            lane->room = 0;
        }
    }
    *rank = (uint32_t)(first >> 32);
    *at = (uint32_t)first;
    return true;
}

static wane_status long_room(const vocab *v, bpe_scratch *b, size_t length, wane_err *e)
{
    if (!b->lane_of && !(b->lane_of = calloc((size_t)v->n_merges + 1, sizeof *b->lane_of)))
        return wane_fail(e, WANE_EOOM, "no memory to encode a long piece of text");
    if (length <= b->room) return WANE_OK;
    free(b->ids);
    free(b->spans);
    b->room = 0;
    b->ids = malloc(length * sizeof *b->ids);
    b->spans = malloc(length * sizeof *b->spans);
    if (!b->ids || !b->spans)
        return wane_fail(e, WANE_EOOM, "no memory to encode a piece of %zu bytes", length);
    b->room = length;
    return WANE_OK;
}

static wane_status merge_long(const vocab *v, bpe_scratch *b, const unsigned char *piece,
                              size_t length, wane_ids *out, wane_err *e)
{
    uint32_t rank, at;
    wane_status s = long_room(v, b, length, e);
    if (s) return s;
    int32_t *ids = b->ids;
    uint16_t *spans = b->spans;
    size_t n = length = first_symbols(v, piece, length, ids);
    for (size_t i = 0; i < length; i++) spans[i] = 1;
    for (size_t i = 0; i + 1 < length && !s; i++) {
        uint32_t r = rank_of(v, ids[i], ids[i + 1]);
        if (r != VOCAB_NONE) s = push(b, r, (uint32_t)i, e);
    }
    while (!s && pop(b, &rank, &at)) {
        if (ids[at] < 0) continue;
        size_t right = at + spans[at];
        const vocab_merge *m = right < length ? vocab_pair(v, ids[at], ids[right]) : NULL;
        if (!m || m->rank != rank) continue;
        size_t after = right + spans[right];
        ids[at] = (int32_t)m->id;
        ids[right] = -1;
        spans[at] = spans[after - 1] = (uint16_t)(after - at);
        n--;
        if (at) {
            size_t left = at - spans[at - 1];
            uint32_t r = rank_of(v, ids[left], ids[at]);
            if (r != VOCAB_NONE) s = push(b, r, (uint32_t)left, e);
        }
        if (!s && after < length) {
            uint32_t r = rank_of(v, ids[at], ids[after]);
            if (r != VOCAB_NONE) s = push(b, r, at, e);
        }
    }
    for (size_t i = 0; i < b->n_lanes; i++) b->lane_of[b->lanes[i].rank] = 0;
    b->n_lanes = b->n_ranks = b->n_late = 0;
    if (!s) s = bpe_room(out, n, e);
    for (size_t i = 0; i < length && !s; i += spans[i]) out->ids[out->count++] = ids[i];
    return s;
}

static wane_status encode_part(const vocab *v, bpe_scratch *b, const unsigned char *piece,
                               size_t length, wane_ids *out, wane_err *e)
{
    wane_status s;
    bpe_word *word = NULL;
    uint64_t key[2] = {0, 0};
    if (b->words && length <= WORD_BYTES && length > 1) {
        memcpy(key, piece, length);
        ((unsigned char *)key)[WORD_BYTES] = (unsigned char)length;
        word = &b->words[vocab_mix(key[0] ^ key[1] * 0x9e3779b97f4a7c15u) & (WORD_SLOTS - 1)];
        if (word->key[0] == key[0] && word->key[1] == key[1]) {
            if ((s = bpe_room(out, word->count, e))) return s;
            memcpy(out->ids + out->count, out->ids + b->base + word->start,
                   word->count * sizeof *out->ids);
            out->count += word->count;
            return WANE_OK;
        }
    }
    size_t before = out->count;
    int32_t whole = -1;
    if (length == 1 && !v->decoder)
        whole = v->byte_id[piece[0]];
    else if (v->ignore_merges)
        whole = v->decoder ? vocab_find_text(v, piece, length) : vocab_find_bytes(v, piece, length);
    if (length <= SHORT || whole >= 0) {
        if ((s = bpe_room(out, whole >= 0 ? 1 : length, e))) return s;
        if (whole >= 0)
            out->ids[out->count++] = whole;
        else
            out->count += merge_short(v, out->ids + out->count,
                                      first_symbols(v, piece, length, out->ids + out->count));
    } else if ((s = merge_long(v, b, piece, length, out, e))) {
        return s;
    }
    if (word && out->count - b->base <= UINT32_MAX)
        *word = (bpe_word){
            {key[0], key[1]}, (uint32_t)(before - b->base), (uint32_t)(out->count - before)};
    return WANE_OK;
}

/* Where the next word begins: a "▁" after another character. */
static size_t next_word(const unsigned char *s, size_t length)
{
    static const char word[] = "\xe2\x96\x81";
    for (size_t at = 1; at < length;) {
        const unsigned char *found = memmem(s + at, length - at, word, 3);
        if (!found) break;
        at = (size_t)(found - s);
        if (at < 3 || memcmp(found - 3, word, 3)) return at;
        at += 3;
    }
    return length;
}

wane_status bpe_encode(const vocab *v, bpe_scratch *b, const unsigned char *piece, size_t length,
                       wane_ids *out, wane_err *e)
{
    wane_status s = WANE_OK;
    if (!v->word_cuts) return encode_part(v, b, piece, length, out, e);
    for (size_t at = 0, end; at < length && !s; at = end) {
        end = at + next_word(piece + at, length - at);
        s = encode_part(v, b, piece + at, end - at, out, e);
    }
    return s;
}
