/* reading.c - see reading.h. */
#include "runtime/save/reading.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

wane_piece wane_piece_find(const wane_checkpoint *c, const char *matrix, const char *suffix)
{
    char name[512];
    wane_piece p = {.suffix = suffix};
    snprintf(name, sizeof name, "%s.%s", matrix, suffix);
    p.entry = wane_checkpoint_find(c, name, &p.file);
    return p;
}

static bool has_size(wane_piece p, int64_t rows, int64_t cols)
{
    return p.entry && p.entry->rank == 2 && p.entry->shape[0] == rows && p.entry->shape[1] == cols;
}

bool wane_piece_is(wane_piece p, wane_dtype dtype, int64_t rows, int64_t cols)
{
    return has_size(p, rows, cols) && p.entry->supported && p.entry->dtype == dtype;
}

bool wane_piece_floats(wane_piece p, int64_t rows, int64_t cols)
{
    return has_size(p, rows, cols) && wane_entry_floating(p.entry);
}

wane_status wane_piece_refuse(const wane_reading *r, wane_piece p, wane_err *e, const char *format,
                              ...)
{
    char is[128], wanted[256];
    va_list args;
    va_start(args, format);
    vsnprintf(wanted, sizeof wanted, format, args);
    va_end(args);
    wane_fail(e, WANE_EFORMAT, "%s.%s is %s; it has to be %s", r->matrix, p.suffix,
              p.entry ? wane_entry_describe(p.entry, is, sizeof is) : "missing", wanted);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s.%s", r->matrix, p.suffix);
    return wane_err_at(e, "load", r->matrix, r->c->dir);
}

wane_status wane_reading_unsupported(const wane_checkpoint *c, wane_err *e, const char *format, ...)
{
    char shown[512], why[384];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    wane_escape(shown, sizeof shown, c->dir, strlen(c->dir));
    wane_fail(e, WANE_EUNSUPPORTED, "%s/config.json: quantization_config: %s", shown, why);
    return wane_err_at(e, "load", NULL, c->dir);
}

wane_status wane_piece_read(wane_piece p, void *out, wane_err *e)
{
    return wane_safetensors_read(p.file, p.entry, 0, p.entry->end - p.entry->begin, out, e);
}

wane_status wane_piece_load(wane_piece p, wane_device *host, wane_tensor **out, wane_err *e)
{
    *out = NULL;
    return wane_safetensors_load(p.file, p.entry, host, out, e);
}

static bool finite_at(const wane_tensor *t, int64_t i)
{
    const char *at =
        (const char *)wane_tensor_mat(t).data + i * (int64_t)wane_dtype_bytes(t->dtype);
    uint32_t wide, mask = 0x7f800000u;
    uint16_t half;
    if (t->dtype == WANE_F32) {
        memcpy(&wide, at, sizeof wide);
    } else {
        memcpy(&half, at, sizeof half);
        wide = half;
        mask = t->dtype == WANE_BF16 ? 0x7f80 : 0x7c00;
    }
    return (wide & mask) != mask; /* an exponent of ones is Inf or NaN */
}

wane_status wane_piece_finite(const wane_reading *r, wane_piece p, const wane_tensor *t,
                              wane_err *e)
{
    int64_t n = wane_tensor_count(t), at = 0;
    while (at < n && finite_at(t, at)) at++;
    if (at == n) return WANE_OK;
    wane_fail(e, WANE_ENUMERIC, "%s.%s has NaN or Inf at element %" PRId64, r->matrix, p.suffix,
              at + 1);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s.%s", r->matrix, p.suffix);
    return wane_err_at(e, "load", r->matrix, r->c->dir);
}

bool wane_json_says(const json_t *object, const char *key, const char *value)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text && !strcmp(text, value);
}

int64_t wane_json_whole(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : otherwise;
}

/* In squares that stay in the cache, as one side is read or written across. */
enum { SQUARE = 32 };

void wane_turn(void *to, const void *from, int64_t rows, int64_t cols, size_t bytes)
{
#pragma omp parallel for if (rows * cols > 1 << 16)
    for (int64_t r0 = 0; r0 < rows; r0 += SQUARE) {
        for (int64_t c0 = 0; c0 < cols; c0 += SQUARE) {
            int64_t r1 = r0 + SQUARE < rows ? r0 + SQUARE : rows;
            int64_t c1 = c0 + SQUARE < cols ? c0 + SQUARE : cols;
            for (int64_t r = r0; r < r1; r++)
                for (int64_t c = c0; c < c1; c++)
                    if (bytes == 4)
                        ((uint32_t *)to)[c * rows + r] = ((const uint32_t *)from)[r * cols + c];
                    else
                        ((uint16_t *)to)[c * rows + r] = ((const uint16_t *)from)[r * cols + c];
        }
    }
}
