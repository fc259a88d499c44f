/* unicode.c - the class tables, ill-formed UTF-8, and NFC (Unicode Standard Annex 15).
 *
 * NFC: text is cut before every character that is inert (ccc 0, NFC_QC Yes); a stretch of one such
 * character and the others after it is decomposed, ordered and composed on its own. Decomposing and
 * composing are utf8proc's. The order is ours, because utf8proc's takes quadratic time on a long
 * run of marks whose classes alternate, and because what is inert follows Unicode 9 (the bit Q) as
 * in Hugging Face's tokenizers: marks assigned later are not moved there. */
#include "runtime/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "runtime/text/generated/classes.h"

wane_status wane_buffer_room(wane_buffer *b, size_t more, wane_err *e)
{
    uint64_t need;
    if (b->room - b->length >= more) return WANE_OK;
    if (!wane_add(b->length, more, &need) || need > PTRDIFF_MAX / 2)
        return wane_fail(e, WANE_EOOM, "no memory for %zu more bytes of text", more);
    size_t room = b->room * 2 > need ? b->room * 2 : (size_t)need;
    unsigned char *data = realloc(b->data, room);
    if (!data) return wane_fail(e, WANE_EOOM, "no memory for %zu bytes of text", room);
    b->data = data;
    b->room = room;
    return WANE_OK;
}

wane_status wane_buffer_add(wane_buffer *b, const void *bytes, size_t length, wane_err *e)
{
    if (!length) return WANE_OK;
    wane_status s = wane_buffer_room(b, length, e);
    if (s) return s;
    memcpy(b->data + b->length, bytes, length);
    b->length += length;
    return WANE_OK;
}

/* The length of the ASCII at the start of s, in steps of eight bytes. */
static size_t ascii_prefix(const unsigned char *s, size_t length)
{
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        uint64_t word;
        memcpy(&word, s + i, 8);
        if (word & 0x8080808080808080u) break;
    }
    return i;
}

bool wane_utf8_valid(const unsigned char *s, size_t length)
{
    for (size_t i = ascii_prefix(s, length), n; i < length; i += n)
        if (!(n = wane_utf8_length(s + i, length - i))) return false;
    return true;
}

wane_status wane_utf8_repair(const unsigned char *s, size_t length, wane_buffer *out, wane_err *e)
{
    wane_status status = WANE_OK;
    for (size_t i = 0, start = 0, used; i <= length && !status; i += used) {
        if (i < length && wane_utf8_length(s + i, length - i)) {
            used = wane_utf8_length(s + i, length - i);
            continue;
        }
        status = wane_buffer_add(out, s + start, i - start, e);
        if (i == length || status) break;
        wane_utf8_decode(s + i, length - i, &used);
        status = wane_buffer_add(out, "\xef\xbf\xbd", 3, e);
        start = i + used;
    }
    return status;
}

bool wane_nfc_needed(const unsigned char *s, size_t length)
{
    for (size_t i = ascii_prefix(s, length), next; i < length; i = next)
        if (unicode_class_at(s, i, &next) & CLASS_Q) return true;
    return false;
}

typedef struct {
    int32_t *points, *spare; /* spare is as large; for sorting */
    size_t count, room;
} stretch;

static int combining(int32_t c)
{
    return unicode_class((uint32_t)c) & CLASS_Q ? utf8proc_get_property(c)->combining_class : 0;
}

/* Sorts marks (all of a class > 0) by class, equal ones staying in order. */
static void order(int32_t *marks, int32_t *spare, size_t count)
{
    if (count <= 32) {
        for (size_t i = 1; i < count; i++) {
            int32_t mark = marks[i];
            size_t j = i;
            for (; j && combining(marks[j - 1]) > combining(mark); j--) marks[j] = marks[j - 1];
            marks[j] = mark;
        }
        return;
    }
    size_t place[257] = {0};
    for (size_t i = 0; i < count; i++) place[combining(marks[i]) + 1]++;
    for (size_t i = 1; i < 257; i++) place[i] += place[i - 1];
    for (size_t i = 0; i < count; i++) spare[place[combining(marks[i])]++] = marks[i];
    memcpy(marks, spare, count * sizeof *marks);
}

static wane_status stretch_room(stretch *t, size_t count, wane_err *e)
{
    if (count <= t->room) return WANE_OK;
    size_t room = t->room * 2 > count ? t->room * 2 : count;
    int32_t *points = realloc(t->points, room * sizeof *points);
    if (points) t->points = points;
    int32_t *spare = points ? realloc(t->spare, room * sizeof *spare) : NULL;
    if (spare) t->spare = spare;
    if (!points || !spare)
        return wane_fail(e, WANE_EOOM, "no memory to normalize %zu characters", count);
    t->room = room;
    return WANE_OK;
}

/* Appends the NFC of one stretch, s[0..length). */
static wane_status compose(const unsigned char *s, size_t length, stretch *t, wane_buffer *out,
                           wane_err *e)
{
    wane_status status = WANE_OK;
    t->count = 0;
    for (size_t i = 0, next; i < length; i = next) {
        int32_t c = (int32_t)unicode_step(s, i, &next);
        if ((status = stretch_room(t, t->count + 4, e)))
            return status; /* 4: the longest in Unicode */
        if (unicode_class((uint32_t)c) & CLASS_Q) {
            int last = 0;
            utf8proc_ssize_t n = utf8proc_decompose_char(c, t->points + t->count, 4,
                                                         UTF8PROC_COMPOSE | UTF8PROC_STABLE, &last);
            if (n < 0 || n > 4)
                return wane_fail(e, WANE_EFORMAT, "cannot decompose U+%04X", (unsigned)c);
            t->count += (size_t)n;
        } else {
            t->points[t->count++] = c;
        }
    }
    for (size_t i = 0, end; i < t->count; i = end) {
        end = i + 1;
        if (!combining(t->points[i])) continue;
        while (end < t->count && combining(t->points[end])) end++;
        order(t->points + i, t->spare, end - i);
    }
    utf8proc_ssize_t n = utf8proc_normalize_utf32(t->points, (utf8proc_ssize_t)t->count,
                                                  UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    if (n < 0) return wane_fail(e, WANE_EFORMAT, "cannot compose text: %s", utf8proc_errmsg(n));
    if ((status = wane_buffer_room(out, (size_t)n * 4, e))) return status;
    for (utf8proc_ssize_t i = 0; i < n; i++)
        out->length += wane_utf8_encode((uint32_t)t->points[i], out->data + out->length);
    return WANE_OK;
}

wane_status wane_nfc(const unsigned char *s, size_t length, wane_buffer *out, wane_err *e)
{
    wane_status status = WANE_OK;
    stretch t = {0};
    size_t done = 0, before = 0; /* before: where the character before i starts */
    for (size_t i = 0, next; i < length && !status; before = i, i = next) {
        if (!(unicode_class_at(s, i, &next) & CLASS_Q)) continue;
        size_t start = before > done ? before : done, end = next, after;
        while (end < length && unicode_class_at(s, end, &after) & CLASS_Q) end = after;
        status = wane_buffer_add(out, s + done, start - done, e);
        if (!status) status = compose(s + start, end - start, &t, out, e);
        done = next = end;
    }
    if (!status) status = wane_buffer_add(out, s + done, length - done, e);
    free(t.points);
    free(t.spare);
    return status;
}
