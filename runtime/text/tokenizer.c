/* tokenizer.c - the life of a tokenizer, encoding and decoding.
 *
 * Encoding, in Hugging Face's order: ill-formed bytes become U+FFFD; added tokens that are not
 * normalized are cut out; what is left is normalized, and the other added tokens are cut out of it;
 * each stretch of text is split into pieces (split.c) and each piece encoded (bpe.c); the
 * template's ids go around the whole. */
#include "runtime/text/tokenizer.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/files.h"
#include "runtime/text/bpe.h"
#include "runtime/text/text.h"

#define FILE_MOST (512ull << 20)

enum { TEXT_MOST = 256 << 20 };

static void clear(wane_tokenizer *t)
{
    vocab_clear(&t->words);
    added_clear(&t->raw);
    added_clear(&t->normalized);
    normalizer_clear(&t->normal);
    splitter_clear(&t->split);
    decoder_clear(&t->decode);
    wane_ids_free(&t->before);
    wane_ids_free(&t->after);
    free(t);
}

static wane_status build(const json_t *root, const vocab_lists *lists, const char *path,
                         wane_tokenizer **out, wane_err *e)
{
    vocab_source from = {path, e};
    wane_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return wane_fail(e, WANE_EOOM, "no memory for a tokenizer");
    atomic_init(&t->refs, 1);
    wane_status s = tokenizer_read(t, root, lists, &from);
    if (s)
        clear(t);
    else
        *out = t;
    return s;
}

/* The file with its two long parts cut out. Whatever is odd about it is for parse to tell: *out is
 * NULL then. */
static wane_status parse_cut(const char *json, size_t length, const char *path,
                             wane_tokenizer **out, wane_err *e)
{
    vocab_lists lists;
    json_t *root = NULL;
    bool cut;
    wane_status s = lists_cut(json, length, &lists, &cut, e);
    if (s || !cut) return s;
    s = wane_json_parse(lists.rest, lists.rest_length, path, &root, e);
    if (!s) {
        const json_t *model = json_object_get(root, "model");
        const json_t *entries = json_object_get(model, "vocab"),
                     *merges = json_object_get(model, "merges");
        if (json_is_object(entries) && !json_object_size(entries) && json_is_array(merges) &&
            !json_array_size(merges))
            s = build(root, &lists, path, out, e);
        json_decref(root);
    }
    lists_free(&lists);
    return s == WANE_EOOM ? s : WANE_OK;
}

wane_status wane_tokenizer_parse(const char *json, size_t length, const char *path,
                                 wane_tokenizer **out, wane_err *e)
{
    json_t *root;
    *out = NULL;
    wane_status s = parse_cut(json, length, path, out, e);
    if (s || *out) return s;
    s = wane_json_parse(json, length, path, &root, e);
    if (s) return s;
    s = build(root, NULL, path, out, e);
    json_decref(root);
    return s;
}

wane_status wane_tokenizer_load(const char *path, wane_tokenizer **out, wane_err *e)
{
    static const char name[] = "/tokenizer.json";
    char file[PATH_MAX], *text = NULL;
    size_t length;
    struct stat about;
    *out = NULL;
    if (!stat(path, &about) && S_ISDIR(about.st_mode) &&
        strlen(path) + sizeof name <= sizeof file) {
        strcpy(stpcpy(file, path), name);
        path = file;
    }
    wane_status s = wane_file_read_all(path, FILE_MOST, &text, &length, e);
    if (!s) s = wane_tokenizer_parse(text, length, path, out, e);
    free(text);
    return s;
}

wane_tokenizer *wane_tokenizer_retain(wane_tokenizer *t)
{
    atomic_fetch_add(&t->refs, 1);
    return t;
}

void wane_tokenizer_release(wane_tokenizer *t)
{
    if (t && atomic_fetch_sub(&t->refs, 1) == 1) clear(t);
}

void wane_ids_free(wane_ids *ids)
{
    free(ids->ids);
    *ids = (wane_ids){0};
}

typedef struct {
    const wane_tokenizer *t;
    bpe_scratch scratch;
    normal_scratch normal;
    wane_ids *out;
    bool plain;
    wane_err *e;
} encoder;

static wane_status encode_piece(void *context, const unsigned char *piece, size_t length,
                                wane_err *e)
{
    encoder *n = context;
    return bpe_encode(&n->t->words, &n->scratch, piece, length, n->out, e);
}

static wane_status put_id(encoder *n, int32_t id)
{
    wane_status s = bpe_room(n->out, 1, n->e);
    if (!s) n->out->ids[n->out->count++] = id;
    return s;
}

/* Text without added tokens of the first kind; first: the whole text begins with it. */
static wane_status encode_stretch(encoder *n, const unsigned char *s, size_t length, bool first)
{
    int32_t id;
    size_t start, end;
    wane_status status = normalizer_run(&n->t->normal, &n->normal, &s, &length, n->e);
    if (status) return status;
    added_walk w = added_begin(&n->t->normalized, s, length, n->plain);
    while (!status && added_next(&w, &id, &start, &end))
        status = id >= 0 ? put_id(n, id)
                         : splitter_run(&n->t->split, s + start, end - start, first && !start,
                                        encode_piece, n, n->e);
    if (status && n->e && n->e->offset >= 0) n->e->offset += (int64_t)start;
    return status;
}

static wane_status encode_text(encoder *n, const unsigned char *s, size_t length)
{
    wane_status status = WANE_OK;
    int32_t id;
    size_t start, end;
    added_walk w = added_begin(&n->t->raw, s, length, n->plain);
    while (!status && added_next(&w, &id, &start, &end))
        status = id >= 0 ? put_id(n, id) : encode_stretch(n, s + start, end - start, !start);
    if (status && n->e && n->e->offset >= 0) n->e->offset += (int64_t)start;
    return status;
}

static wane_status put_all(encoder *n, const wane_ids *ids)
{
    wane_status s = bpe_room(n->out, ids->count, n->e);
    for (size_t i = 0; i < ids->count && !s; i++) n->out->ids[n->out->count++] = ids->ids[i];
    return s;
}

wane_status wane_tokenizer_encode(const wane_tokenizer *t, const char *text, size_t length,
                                  unsigned flags, wane_ids *out, wane_err *e)
{
    encoder n = {.t = t, .out = out, .plain = flags & WANE_PLAIN_SPECIAL, .e = e};
    const unsigned char *s = (const unsigned char *)text;
    size_t before = out->count;
    wane_buffer repaired = {0};
    wane_status status = WANE_OK;
    if (length > TEXT_MOST)
        return wane_fail(e, WANE_EARG, "a text of %zu bytes; at most %d are encoded in one call",
                         length, TEXT_MOST);
    if (!wane_utf8_valid(s, length)) {
        if ((status = wane_utf8_repair(s, length, &repaired, e))) goto done;
        s = repaired.data;
        length = repaired.length;
    }
    bpe_start(&n.scratch, length, before);
    if (flags & WANE_ADD_SPECIAL) status = put_all(&n, &t->before);
    if (!status) status = encode_text(&n, s, length);
    if (!status && flags & WANE_ADD_SPECIAL) status = put_all(&n, &t->after);
done:
    bpe_end(&n.scratch);
    free(n.normal.now.data);
    free(n.normal.next.data);
    free(repaired.data);
    if (status) out->count = before;
    return status;
}

/* The tokens of ids side by side in list, as they are spelled or as the bytes they stand for. */
static wane_status gather(const wane_tokenizer *t, const int32_t *ids, size_t count,
                          bool skip_special, decode_list *list, wane_err *e)
{
    wane_status s = WANE_OK;
    for (size_t i = 0; i < count && !s; i++) {
        size_t n;
        if (ids[i] < 0)
            return wane_fail(e, WANE_EARG, "token id %d at position %zu", (int)ids[i], i);
        if (skip_special && wane_tokenizer_is_special(t, ids[i])) continue;
        const char *token = wane_tokenizer_bytes(t, ids[i], &n);
        if (!token) continue;
        if (t->words.decoder) {
            token = vocab_spelled(&t->words, ids[i], &n);
            s = decode_list_add(list, token, n, e);
        } else {
            s = wane_buffer_add(&list->text, token, n, e);
        }
    }
    return s;
}

wane_status wane_tokenizer_decode(const wane_tokenizer *t, const int32_t *ids, size_t count,
                                  bool skip_special, char **text, size_t *length, wane_err *e)
{
    decode_list list = {0};
    *text = NULL;
    *length = 0;
    wane_status s = gather(t, ids, count, skip_special, &list, e);
    if (!s && t->words.decoder) s = decoder_run(t->words.decoder, &list, e);
    wane_buffer bytes = list.text, repaired = {0};
    free(list.ends);
    if (!s && !wane_utf8_valid(bytes.data, bytes.length)) {
        s = wane_utf8_repair(bytes.data, bytes.length, &repaired, e);
        free(bytes.data);
        bytes = repaired;
    }
    if (!s) s = wane_buffer_add(&bytes, "", 1, e);
    if (s) {
        free(bytes.data);
        return s;
    }
    *text = (char *)bytes.data;
    *length = bytes.length - 1;
    return WANE_OK;
}

int64_t wane_tokenizer_size(const wane_tokenizer *t)
{
    return t->words.size;
}

int32_t wane_tokenizer_find(const wane_tokenizer *t, const char *content)
{
    return vocab_find(&t->words, content, strlen(content));
}

static const vocab_token *find_token(const wane_tokenizer *t, int32_t id)
{
    if (id < 0 || id >= t->words.size || !t->words.tokens[id].flags) return NULL;
    return &t->words.tokens[id];
}

bool wane_tokenizer_is_special(const wane_tokenizer *t, int32_t id)
{
    const vocab_token *token = find_token(t, id);
    return token && token->flags & TOKEN_SPECIAL;
}

const char *wane_tokenizer_token(const wane_tokenizer *t, int32_t id, size_t *length)
{
    const vocab_token *token = find_token(t, id);
    *length = token ? token->content_length : 0;
    return token ? (const char *)t->words.pool.data + token->content : NULL;
}

const char *wane_tokenizer_bytes(const wane_tokenizer *t, int32_t id, size_t *length)
{
    const vocab_token *token = find_token(t, id);
    *length = token ? token->bytes_length : 0;
    return token ? (const char *)t->words.pool.data + token->bytes : NULL;
}
