/* tokenizer.h - text to token ids and back, as Hugging Face's tokenizers does it.
 *
 *     wane_tokenizer *t;
 *     wane_ids ids = {0};
 *     if (wane_tokenizer_load("model/tokenizer.json", &t, &e)) ...
 *     if (wane_tokenizer_encode(t, text, length, WANE_ADD_SPECIAL, &ids, &e)) ...
 *     wane_ids_free(&ids);
 *     wane_tokenizer_release(t);
 *
 * A tokenizer is read from tokenizer.json: BPE over bytes (GPT-2, Qwen, Llama 3) or over characters
 * with bytes behind them (SentencePiece's kind: Llama 2, Mistral), with everything around it:
 * normalizers, split patterns, added tokens, templates, decoders. A component that wane does not
 * know is WANE_EUNSUPPORTED and named; a file that contradicts itself is WANE_EFORMAT. Nothing is
 * skipped in silence.
 *
 * It does not change after loading: any number of threads may use one at once. */
#ifndef WANE_TOKENIZER_H
#define WANE_TOKENIZER_H

#include "runtime/base/error.h"

typedef struct wane_tokenizer wane_tokenizer;

/* Reads path, a tokenizer.json or the folder that holds it. *out is the caller's: release. */
wane_status wane_tokenizer_load(const char *path, wane_tokenizer **out, wane_err *e);

/* The same from memory; path only names it in messages. json may be freed afterwards. */
wane_status wane_tokenizer_parse(const char *json, size_t length, const char *path,
                                 wane_tokenizer **out, wane_err *e);

wane_tokenizer *wane_tokenizer_retain(wane_tokenizer *t); /* counted, from any thread; returns t */
void wane_tokenizer_release(wane_tokenizer *t);           /* NULL is fine */

/* Token ids; start with {0}. ids is malloc'd, count of room are in use. */
typedef struct {
    int32_t *ids;
    size_t count, room;
} wane_ids;

void wane_ids_free(wane_ids *ids); /* and makes it {0} again */

enum {
    WANE_ADD_SPECIAL = 1,  /* apply the post-processor's template (Llama's begin of text) */
    WANE_PLAIN_SPECIAL = 2 /* the text of a special token is ordinary text, not that token */
};

/* Appends the ids of length bytes of text (at most 256 MiB, any bytes: ill-formed UTF-8 is read as
 * U+FFFD). On failure out is as it was. EARG: text too long. EUNSUPPORTED: a split pattern from the
 * file ran into its limits; offset says where in the text. */
wane_status wane_tokenizer_encode(const wane_tokenizer *t, const char *text, size_t length,
                                  unsigned flags, wane_ids *out, wane_err *e);

/* The text of count ids, UTF-8 with a 0 after it; the caller frees *text. Bytes that are not UTF-8
 * become U+FFFD. Ids that no token has give nothing (a model's last rows may be padding), negative
 * ones are EARG. */
wane_status wane_tokenizer_decode(const wane_tokenizer *t, const int32_t *ids, size_t count,
                                  bool skip_special, char **text, size_t *length, wane_err *e);

int64_t wane_tokenizer_size(const wane_tokenizer *t); /* 1 + the highest id */

/* The id of a token by its content as the file spells it ("<|im_end|>", "Ġthe"), or -1. */
int32_t wane_tokenizer_find(const wane_tokenizer *t, const char *content);

/* False for ids that no token has. */
bool wane_tokenizer_is_special(const wane_tokenizer *t, int32_t id);

/* The content as the file spells it, and the bytes that the token stands for in decoded text (not
 * always whole characters; in a file of SentencePiece's kind with the space that decode takes from
 * the start of a text). Borrowed from t, not 0-terminated; NULL for ids that no token has. */
const char *wane_tokenizer_token(const wane_tokenizer *t, int32_t id, size_t *length);
const char *wane_tokenizer_bytes(const wane_tokenizer *t, int32_t id, size_t *length);

#endif
