/* decode.c - the steps of a decoder, as Hugging Face's tokenizers takes them: each maps a list of
 * texts to another, and what the last one leaves is joined.
 *
 * Its own order of things is kept: byte tokens that stand side by side are one text if they are
 * UTF-8 together, and else one U+FFFD for each; Strip works on every text that it is given, so that
 * after Fuse it takes what it takes from the whole. */
#include "runtime/text/decode.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/text/normal.h"

void decoder_clear(decoder *d)
{
    for (int i = 0; i < d->count; i++) {
        free(d->steps[i].from);
        free(d->steps[i].to);
    }
    memset(d, 0, sizeof *d);
}

wane_status decode_list_add(decode_list *list, const char *content, size_t length, wane_err *e)
{
    if (list->count == list->room) {
        size_t room = 2 * list->room + 64;
        size_t *ends = realloc(list->ends, room * sizeof *ends);
        if (!ends) return wane_fail(e, WANE_EOOM, "no memory to decode %zu tokens", room);
        list->ends = ends;
        list->room = room;
    }
    wane_status s = wane_buffer_add(&list->text, content, length, e);
    if (!s) list->ends[list->count++] = list->text.length;
    return s;
}

static int digit_of(char c)
{
    char low = (char)(c | 32);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

int decode_byte(const char *content, size_t length)
{
    if (length != 6 || memcmp(content, "<0x", 3) || content[5] != '>') return -1;
    /* "+A" is a number to Rust's from_str_radix, and so it is here */
    int high = content[3] == '+' ? 0 : digit_of(content[3]), low = digit_of(content[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

static wane_status strip(const decode_step *step, const unsigned char *s, size_t length,
                         wane_buffer *out, wane_err *e)
{
    size_t n = step->from_length;
    for (uint32_t i = 0; i < step->start && length >= n && !memcmp(s, step->from, n); i++)
        s += n, length -= n;
    for (uint32_t i = 0; i < step->stop && length >= n && !memcmp(s + length - n, step->from, n);
         i++)
        length -= n;
    return wane_buffer_add(out, s, length, e);
}

/* One text of the list; first: it is the first of them. */
static wane_status run_text(const decode_step *step, const unsigned char *s, size_t length,
                            bool first, wane_buffer *out, wane_err *e)
{
    switch (step->kind) {
    case DECODE_REPLACE:
        return normal_replace(s, length, step->from, step->from_length, step->to, step->to_length,
                              out, e);
    case DECODE_SPACES:
        return normal_replace(s, length, step->from, step->from_length, " ",
                              first && step->prefixed ? 0 : 1, out, e);
    case DECODE_STRIP: return strip(step, s, length, out, e);
    case DECODE_BYTES:
    case DECODE_FUSE: break;
    }
    return wane_buffer_add(out, s, length, e);
}

/* What stands behind byte `start` of out are byte tokens; they become a text, or one each. *count
 * is how many texts there are. */
static wane_status close_bytes(wane_buffer *out, size_t start, size_t *ends, size_t *count,
                               wane_err *e)
{
    size_t n = out->length - start;
    if (!n) return WANE_OK;
    if (wane_utf8_valid(out->data + start, n)) {
        ends[(*count)++] = out->length;
        return WANE_OK;
    }
    out->length = start;
    for (size_t i = 0; i < n; i++) {
        wane_status s = wane_buffer_add(out, "\xef\xbf\xbd", 3, e);
        if (s) return s;
        ends[(*count)++] = out->length;
    }
    return WANE_OK;
}

static wane_status run_step(const decode_step *step, decode_list *list, wane_buffer *out,
                            wane_err *e)
{
    size_t count = 0, bytes = 0; /* bytes: where those begin that wait for others */
    wane_status s = WANE_OK;
    for (size_t i = 0, at = 0; i < list->count && !s; i++) {
        const unsigned char *text = list->text.data + at;
        size_t length = list->ends[i] - at;
        at = list->ends[i];
        int byte = step->kind == DECODE_BYTES ? decode_byte((const char *)text, length) : -1;
        if (byte >= 0) {
            unsigned char one = (unsigned char)byte;
            s = wane_buffer_add(out, &one, 1, e);
            continue;
        }
        if (step->kind == DECODE_BYTES) s = close_bytes(out, bytes, list->ends, &count, e);
        if (!s) s = run_text(step, text, length, i == 0, out, e);
        if (!s) list->ends[count++] = bytes = out->length;
    }
    if (!s && step->kind == DECODE_BYTES) s = close_bytes(out, bytes, list->ends, &count, e);
    list->count = count;
    return s;
}

wane_status decoder_run(const decoder *d, decode_list *list, wane_err *e)
{
    wane_buffer out = {0};
    wane_status s = WANE_OK;
    for (int i = 0; i < d->count && !s && list->count; i++) {
        if (d->steps[i].kind == DECODE_FUSE) {
            list->ends[0] = list->text.length;
            list->count = 1;
            continue;
        }
        out.length = 0;
        s = run_step(&d->steps[i], list, &out, e);
        if (!s && out.length > DECODE_MOST)
            s = wane_fail(e, WANE_EARG, "a text of more than %d bytes; decode it in parts",
                          DECODE_MOST);
        wane_buffer was = list->text;
        list->text = out;
        out = was;
    }
    free(out.data);
    return s;
}

wane_status decoder_token(const decoder *d, wane_buffer scratch[2], const unsigned char **text,
                          size_t *length, wane_err *e)
{
    wane_status s = WANE_OK;
    for (int i = 0; i < d->count && !s && d->steps[i].kind != DECODE_FUSE; i++) {
        const decode_step *step = &d->steps[i];
        int byte = step->kind == DECODE_BYTES ? decode_byte((const char *)*text, *length) : -1;
        if (step->kind == DECODE_STRIP || (step->kind == DECODE_BYTES && byte < 0)) continue;
        wane_buffer *to = &scratch[*text == scratch[0].data];
        unsigned char one = (unsigned char)byte;
        to->length = 0;
        s = byte < 0 ? run_text(step, *text, *length, false, to, e)
                     : wane_buffer_add(to, &one, 1, e);
        *text = to->data;
        *length = to->length;
        if (byte >= 0) break; /* alone it need not be UTF-8 */
    }
    return s;
}
