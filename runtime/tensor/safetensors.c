/* safetensors.c - reading; see safetensors.h.
 *
 * A file is 8 bytes (the header's length, little-endian), the header (JSON: name -> dtype, shape,
 * data_offsets; "__metadata__" -> strings), the data. The rules are those of the reference
 * (github.com/huggingface/safetensors, README "Format" and its validation): header at most 100 MB
 * and starting with "{", tensors back to back from the data's first byte to the file's last, shape
 * times dtype equal to the size. Stricter here: rank 8, names of 1..1024 bytes without control
 * characters. */
#include "runtime/tensor/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/json.h"
#include "runtime/base/units.h"

static const uint64_t HEADER_MOST = 100000000, BYTES_MOST = (uint64_t)1 << 47;
static const uint64_t CHUNK = 16 << 20; /* bytes between two looks at the interrupt flag */
static const uint64_t PIECE = 1 << 20;  /* bytes that one thread reads at a time */
enum { NAME_MOST = 1024, TENSORS_MOST = 1000000, MEMBERS_MOST = 100000 };

/* Every dtype of the format, with its bits; dtype is wane's, or -1. */
static const struct {
    const char *name;
    int bits, dtype;
} dtypes[] = {
    {"F32", 32, WANE_F32}, {"F16", 16, WANE_F16},  {"BF16", 16, WANE_BF16}, {"I8", 8, WANE_I8},
    {"U8", 8, WANE_U8},    {"I32", 32, WANE_I32},  {"I64", 64, WANE_I64},   {"BOOL", 8, -1},
    {"I16", 16, -1},       {"U16", 16, -1},        {"U32", 32, -1},         {"U64", 64, -1},
    {"F64", 64, -1},       {"C64", 64, -1},        {"F8_E4M3", 8, -1},      {"F8_E5M2", 8, -1},
    {"F8_E8M0", 8, -1},    {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1},  {"F6_E2M3", 6, -1},
    {"F6_E3M2", 6, -1},    {"F4", 4, -1},
};

const char *wane_safetensors_dtype(wane_dtype t)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].dtype == (int)t) return dtypes[i].name;
    return "unknown";
}

/* A refusal: "PATH: tensor "NAME": text", with the fields. name may be NULL, offset -1. */
__attribute__((format(printf, 5, 6))) static wane_status refuse(wane_err *e,
                                                                const wane_safetensors *f,
                                                                const char *name, int64_t offset,
                                                                const char *format, ...)
{
    char path[400], tensor[200] = "", text[512];
    va_list args;
    if (!e) return WANE_EFORMAT;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    wane_escape(path, sizeof path, f->path, strlen(f->path));
    if (name) wane_escape(tensor, sizeof tensor, name, strlen(name));
    wane_fail(e, WANE_EFORMAT, name ? "%s: tensor \"%s\": %s" : "%s: %s%s", path, tensor, text);
    snprintf(e->tensor, sizeof e->tensor, "%s", tensor);
    e->offset = offset;
    wane_err_at(e, "load", NULL, f->path);
    return WANE_EFORMAT;
}

static wane_status no_memory(wane_err *e, const wane_safetensors *f, uint64_t bytes)
{
    char shown[512];
    wane_escape(shown, sizeof shown, f->path, strlen(f->path));
    wane_fail(e, WANE_EOOM, "host: no memory to read the header of %s", shown);
    if (e) e->requested = bytes;
    return WANE_EOOM;
}

static wane_status pread_all(const wane_safetensors *f, void *out, uint64_t bytes, uint64_t offset,
                             wane_err *e)
{
    char *p = out;
    while (bytes) {
        ssize_t n = pread(f->fd, p, bytes < (1u << 30) ? bytes : 1u << 30, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return wane_fail_io(e, "read", f->path);
        if (n == 0)
            return refuse(e, f, NULL, (int64_t)offset,
                          "changed while reading: it now ends at byte %" PRIu64, offset);
        p += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return WANE_OK;
}

/* A file without a usable header length: says what it is, where the first bytes tell. */
static wane_status not_safetensors(const wane_safetensors *f, const char *start, size_t n,
                                   uint64_t length, wane_err *e)
{
    static const char convert[] =
        "convert it with python -c \"import torch, safetensors.torch as s; "
        "s.save_file(torch.load('IN', weights_only=True), 'OUT')\"";
    const char *text = start;
    while (text < start + n && strchr(" \t\r\n", *text)) text++;
    size_t left = (size_t)(start + n - text);
    const char *dot = strrchr(f->path, '.');
    bool torch_name = dot && (!strcmp(dot, ".bin") || !strcmp(dot, ".pt") || !strcmp(dot, ".pth") ||
                              !strcmp(dot, ".ckpt") || !strcmp(dot, ".pkl"));
    if (f->bytes == 0) return refuse(e, f, NULL, 0, "the file is empty; download it again");
    if (n >= 23 && !memcmp(start, "version https://git-lfs", 23))
        return refuse(
            e, f, NULL, 0,
            "a git-lfs pointer, not the weights; run `git lfs pull` there, or `wane get`");
    if (left >= 5 && (!strncasecmp(text, "<html", 5) || !strncasecmp(text, "<!doc", 5)))
        return refuse(e, f, NULL, 0,
                      "a web page, not weights: a login or error page was saved; run `wane get`");
    if (n >= 4 && !memcmp(start, "PK\3\4", 4))
        return refuse(e, f, NULL, 0,
                      "a zip archive, as torch.save writes; it can hold code and is never "
                      "opened; %s",
                      convert);
    if (torch_name || (n >= 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5))
        return refuse(e, f, NULL, 0, "a pickle, which can run code and is never opened; %s",
                      convert);
    if (n >= 4 && !memcmp(start, "GGUF", 4))
        return refuse(e, f, NULL, 0,
                      "a GGUF file; wane reads safetensors: take the original model");
    if (f->bytes < 8)
        return refuse(e, f, NULL, 0, "not a safetensors file (%" PRIu64 " bytes)", f->bytes);
    if (length > HEADER_MOST)
        return refuse(
            e, f, NULL, 0,
            "not a safetensors file: it claims a header of %" PRIu64 " bytes, over 100 MB", length);
    if (length < 2)
        return refuse(e, f, NULL, 0, "not a safetensors file: its header has %" PRIu64 " bytes",
                      length);
    return refuse(e, f, NULL, 0,
                  "its header of %" PRIu64 " bytes does not fit a file of %" PRIu64
                  "; it is cut off: download it again",
                  length, f->bytes);
}

/* What can be refused before the text is made a tree, which may cost twenty times its text: a first
 * byte other than {, bad UTF-8, and more of anything than the format or a million tensors can need.
 */
static wane_status scan_header(const wane_safetensors *f, const char *text, size_t length,
                               wane_err *e)
{
    const unsigned char *p = (const unsigned char *)text;
    bool in_string = false, in_list = false;
    int depth = 0;
    size_t tensors = 0, members = 0,
           items = 0; /* commas of the header, the inner object, the list */
    if (text[0] != '{') return refuse(e, f, NULL, 8, "its header does not start with { at byte 8");
    for (size_t i = 0, n; i < length; i += n) {
        n = wane_utf8_length(p + i, length - i);
        if (!n)
            return refuse(e, f, NULL, (int64_t)(8 + i), "its header is not UTF-8 at byte %zu",
                          8 + i);
        if (in_string) {
            in_string = p[i] != '"';
            if (p[i] == '\\' && i + 1 < length && p[i + 1] < 0x80) n++;
            continue;
        }
        switch (p[i]) {
        case '"': in_string = true; break;
        case '{': depth++, members = 0; break;
        case '}': depth--; break;
        case '[': in_list = true, items = 0; break;
        case ']': in_list = false; break;
        case ',': ++*(in_list ? &items : depth > 1 ? &members : &tensors); break;
        default: break;
        }
        const char *what = items >= WANE_RANK        ? "a list of more than 8 numbers"
                           : members >= MEMBERS_MOST ? "more than 100000 entries in one object"
                           : tensors > TENSORS_MOST  ? "more than 1000000 tensors"
                                                     : NULL;
        if (what) return refuse(e, f, NULL, (int64_t)(8 + i), "%s at byte %zu", what, 8 + i);
    }
    return WANE_OK;
}

static bool plain_name(const char *name, size_t length)
{
    if (length < 1 || length > NAME_MOST || strlen(name) != length) return false;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)name[i];
        /* U+0080 .. U+009F are controls, too */
        if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)name[i + 1] < 0xa0)) return false;
    }
    return true;
}

bool wane_safetensors_name_ok(const char *name)
{
    size_t length = strlen(name), n;
    for (size_t i = 0; i < length; i += n)
        if (!(n = wane_utf8_length((const unsigned char *)name + i, length - i))) return false;
    return plain_name(name, length);
}

/* A whole number >= 0 of a header. */
static bool natural(json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static wane_status read_entry(const wane_safetensors *f, const char *name, json_t *value,
                              wane_entry *t, wane_err *e)
{
    json_t *dtype = json_object_get(value, "dtype"), *shape = json_object_get(value, "shape");
    json_t *offsets = json_object_get(value, "data_offsets");
    uint64_t count = 1, size = 0, bits = 0;
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets))
        return refuse(e, f, name, -1, "needs dtype (text), shape and data_offsets (lists)");
    const char *spelt = json_string_value(dtype);
    wane_escape(t->dtype_name, sizeof t->dtype_name, spelt, json_string_length(dtype));
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes && !bits; i++) {
        if (strcmp(dtypes[i].name, spelt)) continue;
        bits = (uint64_t)dtypes[i].bits;
        t->supported = dtypes[i].dtype >= 0;
        if (t->supported) t->dtype = (wane_dtype)dtypes[i].dtype;
    }
    if (json_array_size(shape) > WANE_RANK)
        return refuse(e, f, name, -1, "has %zu dimensions; at most %d", json_array_size(shape),
                      WANE_RANK);
    t->rank = (int)json_array_size(shape);
    uint64_t whole = 1; /* the product without its zeros: no use of the shape can overflow */
    for (int i = 0; i < t->rank; i++) {
        uint64_t n;
        if (!natural(json_array_get(shape, (size_t)i), &n))
            return refuse(e, f, name, -1, "dimension %d is not a whole number of at least 0",
                          i + 1);
        if (!wane_mul(whole, n ? n : 1, &whole) || whole > BYTES_MOST)
            return refuse(e, f, name, -1, "its shape multiplies to more than any memory");
        count = n ? count : 0;
        t->shape[i] = (int64_t)n;
    }
    if (count) count = whole;
    if (json_array_size(offsets) != 2 || !natural(json_array_get(offsets, 0), &t->begin) ||
        !natural(json_array_get(offsets, 1), &t->end))
        return refuse(e, f, name, -1, "data_offsets must be two whole numbers of at least 0");
    if (t->begin > t->end)
        return refuse(e, f, name, (int64_t)t->begin,
                      "data_offsets are reversed: %" PRIu64 " after %" PRIu64, t->begin, t->end);
    if (!bits) return WANE_OK; /* a dtype this program does not know: only its place is checked */
    if (!wane_mul(count, bits, &size) || size % 8 || size / 8 > BYTES_MOST)
        return refuse(e, f, name, -1, "its shape and dtype %s make no whole number of bytes",
                      t->dtype_name);
    if (size / 8 != t->end - t->begin)
        return refuse(e, f, name, (int64_t)t->begin,
                      "its shape and dtype %s need %" PRIu64
                      " bytes, its data_offsets span %" PRIu64,
                      t->dtype_name, size / 8, t->end - t->begin);
    return WANE_OK;
}

static wane_status read_metadata(wane_safetensors *f, json_t *value, wane_err *e)
{
    const char *key;
    json_t *text;
    size_t at = 0;
    if (!json_is_object(value))
        return refuse(e, f, NULL, -1, "__metadata__ is not an object of strings");
    f->metadata = calloc(2 * json_object_size(value) + 1, sizeof *f->metadata);
    if (!f->metadata) return no_memory(e, f, 2 * json_object_size(value) * sizeof *f->metadata);
    json_object_foreach(value, key, text)
    {
        if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text)) {
            char shown[100];
            wane_escape(shown, sizeof shown, key, strlen(key));
            return refuse(e, f, NULL, -1, "__metadata__: \"%s\" is not a string of text", shown);
        }
        f->metadata[at] = strdup(key);
        f->metadata[at + 1] = strdup(json_string_value(text));
        if (!f->metadata[at] || !f->metadata[at + 1]) {
            if (!f->metadata[at]) free(f->metadata[at + 1]); /* close stops at the first NULL */
            return no_memory(e, f, json_string_length(text));
        }
        at += 2;
    }
    return WANE_OK;
}

static int by_place(const void *a, const void *b)
{
    const wane_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const wane_entry *)a)->name, ((const wane_entry *)b)->name);
}

/* The tensors must cover the data exactly. */
static wane_status check_places(wane_safetensors *f, wane_err *e)
{
    uint64_t at = 0, there = f->bytes - f->data, needed = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->entries[i].end > needed) needed = f->entries[i].end;
    if (needed > there)
        return refuse(e, f, NULL, (int64_t)f->bytes,
                      "cut off: %" PRIu64 " of %" PRIu64
                      " bytes of data are there; download it again",
                      there, needed);
    qsort(f->entries, f->count, sizeof *f->entries, by_place);
    for (size_t i = 0; i < f->count; i++) {
        const wane_entry *t = &f->entries[i];
        if (t->begin < at)
            return refuse(e, f, t->name, (int64_t)(f->data + t->begin),
                          "overlaps the tensor before it by %" PRIu64 " bytes", at - t->begin);
        if (t->begin > at)
            return refuse(e, f, t->name, (int64_t)(f->data + at),
                          "a hole of %" PRIu64 " bytes before it", t->begin - at);
        at = t->end;
    }
    if (at < there)
        return refuse(e, f, NULL, (int64_t)(f->data + at),
                      "%" PRIu64 " bytes follow the last tensor; nothing may", there - at);
    if (f->count) qsort(f->entries, f->count, sizeof *f->entries, by_name);
    return WANE_OK;
}

static wane_status read_header(wane_safetensors *f, const char *text, size_t length, wane_err *e)
{
    json_t *root = NULL, *value;
    const char *name;
    size_t name_length;
    wane_status s = scan_header(f, text, length, e);
    if (s) return s;
    s = wane_json_parse(text, length, f->path, &root, e);
    if (s) {
        if (e && e->offset >= 0) e->offset += 8;
        return s;
    }
    size_t most = json_object_size(root); /* parsed from "{", so an object */
    f->entries = calloc(most ? most : 1, sizeof *f->entries);
    if (!f->entries) s = no_memory(e, f, most * sizeof *f->entries);
    for (void *i = json_object_iter(root); i && !s; i = json_object_iter_next(root, i)) {
        name = json_object_iter_key(i);
        name_length = json_object_iter_key_len(i);
        value = json_object_iter_value(i);
        if (!strcmp(name, "__metadata__") && name_length == 12) {
            s = read_metadata(f, value, e);
            continue;
        }
        if (!plain_name(name, name_length)) {
            s = refuse(e, f, name, -1, "a name has 1 to %d bytes and no control characters",
                       NAME_MOST);
            continue;
        }
        wane_entry *t = &f->entries[f->count];
        s = read_entry(f, name, value, t, e);
        if (!s && !(t->name = strdup(name))) s = no_memory(e, f, name_length);
        if (!s) f->count++;
    }
    json_decref(root);
    return s ? s : check_places(f, e);
}

wane_status wane_safetensors_open(const char *path, wane_safetensors **out, wane_err *e)
{
    struct stat about;
    unsigned char start[512];
    char *text = NULL;
    wane_status s = WANE_OK;
    *out = NULL;
    wane_safetensors *f = calloc(1, sizeof *f);
    if (!f || !(f->path = strdup(path))) {
        free(f);
        return wane_fail(e, WANE_EOOM, "host: no memory to open a file");
    }
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hang here */
    if (f->fd < 0 || fstat(f->fd, &about)) {
        s = wane_fail_io(e, "open", path);
        goto done;
    }
    if (!S_ISREG(about.st_mode)) {
        errno = S_ISDIR(about.st_mode) ? EISDIR : EINVAL;
        s = wane_fail_io(e, "open", path);
        goto done;
    }
    f->bytes = (uint64_t)about.st_size;
    f->changed[0] = about.st_mtim.tv_sec;
    f->changed[1] = about.st_mtim.tv_nsec;
    size_t n = f->bytes < sizeof start ? (size_t)f->bytes : sizeof start;
    s = pread_all(f, start, n, 0, e);
    if (s) goto done;
    uint64_t length = 0;
    for (size_t i = 0; i < 8 && i < n; i++) length |= (uint64_t)start[i] << (8 * i);
    if (n < 8 || length < 2 || length > HEADER_MOST || length > f->bytes - 8) {
        s = not_safetensors(f, (const char *)start, n, length, e);
        goto done;
    }
    f->data = 8 + length;
    text = malloc((size_t)length);
    if (!text) {
        s = no_memory(e, f, length);
        goto done;
    }
    s = pread_all(f, text, length, 8, e);
    if (!s) s = read_header(f, text, (size_t)length, e);
    if (!s) *out = f;
done:
    free(text);
    if (s) wane_safetensors_close(f);
    return s;
}

void wane_safetensors_close(wane_safetensors *f)
{
    if (!f) return;
    for (size_t i = 0; i < f->count; i++) free(f->entries[i].name);
    for (char **m = f->metadata; m && *m; m++) free(*m);
    free(f->entries);
    free(f->metadata);
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free(f);
}

const wane_entry *wane_safetensors_find(const wane_safetensors *f, const char *name)
{
    wane_entry key = {.name = (char *)(uintptr_t)name};
    if (!f->count) return NULL;
    return bsearch(&key, f->entries, f->count, sizeof *f->entries, by_name);
}

wane_status wane_safetensors_read(const wane_safetensors *f, const wane_entry *t, uint64_t begin,
                                  uint64_t bytes, void *out, wane_err *e)
{
    struct stat about;
    uint64_t size = t->end - t->begin;
    if (begin > size || bytes > size - begin)
        return wane_fail(e, WANE_EARG, "bytes %" PRIu64 "+%" PRIu64 " are not within \"%.200s\"",
                         begin, bytes, t->name);
    wane_status s = pread_all(f, out, bytes, f->data + t->begin + begin, e);
    if (s) return s;
    if (fstat(f->fd, &about)) return wane_fail_io(e, "read", f->path);
    if ((uint64_t)about.st_size != f->bytes || about.st_mtim.tv_sec != f->changed[0] ||
        about.st_mtim.tv_nsec != f->changed[1])
        return refuse(e, f, t->name, (int64_t)(f->data + t->begin + begin),
                      "the file changed while reading; start again once it is complete");
    return WANE_OK;
}

void wane_safetensors_foresee(const wane_safetensors *f, const wane_entry *t)
{
    (void)posix_fadvise(f->fd, (off_t)(f->data + t->begin), (off_t)(t->end - t->begin),
                        POSIX_FADV_WILLNEED);
}

/* The same by all threads, a piece each: one alone copies out of the page cache at a fraction of
 * what memory, or a fast disk, can do. */
static wane_status read_together(const wane_safetensors *f, const wane_entry *t, uint64_t begin,
                                 uint64_t bytes, char *out, wane_err *e)
{
    int64_t pieces = (int64_t)((bytes + PIECE - 1) / PIECE);
    wane_status status = WANE_OK;
    if (pieces < 2) return wane_safetensors_read(f, t, begin, bytes, out, e);
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < pieces; i++) {
        uint64_t at = (uint64_t)i * PIECE, n = bytes - at < PIECE ? bytes - at : PIECE;
        wane_err why;
        wane_status s = wane_safetensors_read(f, t, begin + at, n, out + at, &why);
        if (!s) continue;
#pragma omp critical
        {
            status = s;
            if (e) *e = why;
        }
    }
    return status;
}

wane_status wane_safetensors_load(const wane_safetensors *f, const wane_entry *t, wane_device *d,
                                  wane_tensor **out, wane_err *e)
{
    uint64_t size = t->end - t->begin, room = size < CHUNK ? size : CHUNK;
    wane_tensor *made = NULL;
    char *staging = NULL;
    wane_status s;
    *out = NULL;
    if (!t->supported) {
        refuse(e, f, t->name, -1, "dtype %s; wane reads F32, F16, BF16, I8, U8, I32 and I64",
               t->dtype_name);
        if (e) e->status = WANE_EUNSUPPORTED;
        return WANE_EUNSUPPORTED;
    }
    s = wane_tensor_new(d, t->dtype, t->rank, t->shape, &made, e);
    if (s) goto done;
    char *target = made->buffer->data;
    if (!wane_device_is_host(d) && room && !(staging = malloc((size_t)room))) {
        s = no_memory(e, f, room);
        goto done;
    }
    for (uint64_t at = 0, n; at < size && !s; at += n) {
        n = size - at < room ? size - at : room;
        s = wane_device_poll(d, e);
        if (!s) s = read_together(f, t, at, n, staging ? staging : target + at, e);
        if (!s && staging) s = WANE_CALL(d, e, put, target + at, staging, (size_t)n);
    }
    if (s) goto done;
    *out = made;
    made = NULL;
done:
    free(staging);
    wane_tensor_release(made);
    wane_err_at(e && s ? e : NULL, "load", NULL, f->path);
    return s;
}
