/* normal.c - the steps of a normalizer: NFC, a prefix, texts for texts.
 *
 * As in Hugging Face's tokenizers each stretch between added tokens is normalized on its own, and a
 * prefix (Llama's "▁") goes before every stretch that is not empty, not only before the first. */
#include "runtime/text/normal.h"

#include <stdlib.h>
#include <string.h>

void normalizer_clear(normalizer *n)
{
    for (int i = 0; i < n->count; i++) {
        free(n->steps[i].from);
        free(n->steps[i].to);
    }
    memset(n, 0, sizeof *n);
}

wane_status normal_replace(const unsigned char *s, size_t length, const char *from,
                           size_t from_length, const char *to, size_t to_length, wane_buffer *out,
                           wane_err *e)
{
    wane_status status = WANE_OK;
    size_t done = 0;
    while (!status && done < length) {
        const unsigned char *at = memmem(s + done, length - done, from, from_length);
        size_t end = at ? (size_t)(at - s) : length;
        status = wane_buffer_add(out, s + done, end - done, e);
        if (!status && at) status = wane_buffer_add(out, to, to_length, e);
        done = at ? end + from_length : length;
    }
    return status;
}

/* Whether the step would change the text. */
static bool is_needed(const normal_step *step, const unsigned char *s, size_t length)
{
    switch (step->kind) {
    case NORMAL_NFC: return wane_nfc_needed(s, length);
    case NORMAL_PREPEND: return length && step->to_length;
    case NORMAL_REPLACE: return length && memmem(s, length, step->from, step->from_length);
    }
    return false;
}

static wane_status run_step(const normal_step *step, const unsigned char *s, size_t length,
                            wane_buffer *out, wane_err *e)
{
    wane_status status;
    switch (step->kind) {
    case NORMAL_NFC: return wane_nfc(s, length, out, e);
    case NORMAL_PREPEND:
        status = wane_buffer_add(out, step->to, step->to_length, e);
        return status ? status : wane_buffer_add(out, s, length, e);
    case NORMAL_REPLACE:
        return normal_replace(s, length, step->from, step->from_length, step->to, step->to_length,
                              out, e);
    }
    return WANE_OK;
}

wane_status normalizer_run(const normalizer *n, normal_scratch *scratch, const unsigned char **text,
                           size_t *length, wane_err *e)
{
    for (int i = 0; i < n->count; i++) {
        if (!is_needed(&n->steps[i], *text, *length)) continue;
        scratch->next.length = 0;
        wane_status s = run_step(&n->steps[i], *text, *length, &scratch->next, e);
        if (s) return s;
        if (scratch->next.length > NORMAL_MOST)
            return wane_fail(e, WANE_EARG,
                             "a text that its normalizer makes longer than %d bytes; encode it in "
                             "parts",
                             NORMAL_MOST);
        wane_buffer now = scratch->now;
        scratch->now = scratch->next;
        scratch->next = now;
        *text = scratch->now.data;
        *length = scratch->now.length;
    }
    return WANE_OK;
}
