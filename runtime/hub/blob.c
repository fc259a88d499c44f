/* blob.c - partial files; see blob.h.
 *
 * A partial file is never cut short and started anew in place: it is removed and made again. Two
 * processes on a file system without flock then at worst write the same bytes to the same places.
 */
#include "runtime/hub/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"

enum { SLICE = 4 << 20, PIECE = 256 << 10, WORTH_A_TAG = 1 << 20 };

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for a download");
}

/* *out = a copy of text, NULL of NULL */
static bool keep(const char **out, const char *text)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

wane_status wane_blob_new(wane_blob *b, const wane_hub_file *f, wane_err *e)
{
    memset(b, 0, sizeof *b);
    b->lock = b->fd = b->source = -1;
    b->f.size = f->size;
    b->f.replace = f->replace;
    b->f.verify = f->verify;
    size_t room = strlen(f->partial) + sizeof ".etag";
    b->sidecar = malloc(room);
    if (b->sidecar) snprintf(b->sidecar, room, "%s.etag", f->partial);
    b->digest = EVP_MD_CTX_new();
    bool kept = keep(&b->f.url, f->url) && keep(&b->f.name, f->name) && keep(&b->f.hash, f->hash) &&
                keep(&b->f.path, f->path) && keep(&b->f.partial, f->partial) &&
                keep(&b->f.lock, f->lock) && keep(&b->f.copy, f->copy) &&
                keep(&b->f.link, f->link) && keep(&b->f.target, f->target);
    if (kept && b->sidecar && b->digest) return WANE_OK;
    wane_blob_free(b);
    return no_memory(e);
}

static void shut(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Gives back what was reserved past the end, and a file without a byte altogether. */
static void leave_partial(wane_blob *b)
{
    struct stat about;
    if (b->fd < 0 || fstat(b->fd, &about)) return;
    if (about.st_size == 0) {
        unlink(b->f.partial);
        unlink(b->sidecar);
    } else if (ftruncate(b->fd, about.st_size)) {
        errno = 0; /* then the reserve stays: the next attempt uses it */
    }
}

void wane_blob_free(wane_blob *b)
{
    leave_partial(b);
    shut(&b->fd);
    shut(&b->source);
    shut(&b->lock);
    EVP_MD_CTX_free(b->digest);
    const char *const texts[] = {b->f.url,  b->f.name, b->f.hash, b->f.path,  b->f.partial,
                                 b->f.lock, b->f.copy, b->f.link, b->f.target};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) free((char *)(uintptr_t)texts[i]);
    free(b->sidecar);
    memset(b, 0, sizeof *b);
    b->lock = b->fd = b->source = -1;
}

wane_status wane_blob_lock(wane_blob *b, bool *held, wane_err *e)
{
    struct stat opened, named;
    *held = true;
    if (!b->f.lock || b->lock >= 0) return WANE_OK;
    int fd = open(b->f.lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
    if (fd < 0) return wane_fail_io(e, "lock", b->f.lock);
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        *held = false;
    } else if (fstat(fd, &opened) || stat(b->f.lock, &named) || opened.st_ino != named.st_ino ||
               opened.st_dev != named.st_dev) {
        *held = false; /* its last holder removed it meanwhile */
    }
    if (*held)
        b->lock = fd;
    else
        close(fd);
    return WANE_OK;
}

/* The hash starts over; git puts a header of its own before a blob. */
static wane_status start_digest(wane_blob *b, wane_err *e)
{
    char head[40];
    bool git = strlen(b->f.hash) == 40;
    int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)b->f.size) + 1;
    b->at = 0;
    if (!EVP_DigestInit_ex(b->digest, git ? EVP_sha1() : EVP_sha256(), NULL)) return no_memory(e);
    if (git && !EVP_DigestUpdate(b->digest, head, (size_t)n)) return no_memory(e);
    return WANE_OK;
}

static bool hash_is_right(wane_blob *b)
{
    unsigned char raw[EVP_MAX_MD_SIZE];
    char hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned n = 0;
    if (!EVP_DigestFinal_ex(b->digest, raw, &n)) return false;
    for (unsigned i = 0; i < n; i++) snprintf(hex + 2 * i, 3, "%02x", raw[i]);
    return !strcmp(hex, b->f.hash);
}

static wane_status disk_error(wane_blob *b, uint64_t bytes, wane_err *e)
{
    return wane_fail_disk(e, b->f.partial, b->fd, bytes,
                          "make room and run the same command again, it goes on from there");
}

static wane_status open_partial(wane_blob *b, wane_err *e)
{
    b->fd = open(b->f.partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    return b->fd < 0 ? wane_fail_io(e, "write", b->f.partial) : WANE_OK;
}

wane_status wane_blob_restart(wane_blob *b, wane_err *e)
{
    shut(&b->fd);
    shut(&b->source);
    b->copying = b->checking = false;
    b->slice = 0;
    b->tag[0] = 0;
    unlink(b->sidecar);
    if (unlink(b->f.partial) && errno != ENOENT) return wane_fail_io(e, "remove", b->f.partial);
    wane_status s = open_partial(b, e);
    return s ? s : start_digest(b, e);
}

static wane_status in_the_way(wane_blob *b, wane_err *e)
{
    char shown[512];
    wane_escape(shown, sizeof shown, b->f.path, strlen(b->f.path));
    wane_fail(
        e, WANE_EIO,
        "%s is there already and is another file than the Hub's; move it away or name another "
        "folder",
        shown);
    wane_err_at(e, "get", NULL, b->f.path);
    return WANE_EIO;
}

static bool link_is_there(const wane_blob *b)
{
    char target[512];
    if (!b->f.link) return true;
    ssize_t n = readlink(b->f.link, target, sizeof target - 1);
    if (n < 0) return false;
    target[n] = 0;
    return !strcmp(target, b->f.target);
}

bool wane_blob_there(const wane_blob *b)
{
    struct stat about;
    return !b->f.verify && !lstat(b->f.path, &about) && S_ISREG(about.st_mode) &&
           (uint64_t)about.st_size == b->f.size && link_is_there(b);
}

static wane_status make_link(wane_blob *b, wane_err *e)
{
    if (link_is_there(b)) return WANE_OK;
    /* under a name of its own and then renamed: a reader always finds one or the other */
    size_t room = strlen(b->f.link) + 32;
    char *fresh = malloc(room);
    if (!fresh) return no_memory(e);
    snprintf(fresh, room, "%s.partial-%ld", b->f.link, (long)getpid());
    unlink(fresh);
    wane_status s = WANE_OK;
    if (symlink(b->f.target, fresh) || rename(fresh, b->f.link)) {
        s = wane_fail_io(e, "link", b->f.link);
        unlink(fresh);
    }
    free(fresh);
    return s;
}

/* What lies in PARTIAL.etag. A text that is damaged only costs a fetch from the start. */
static void read_tag(wane_blob *b)
{
    char *text;
    size_t length;
    b->tag[0] = 0;
    if (wane_file_read_all(b->sidecar, sizeof b->tag - 1, &text, &length, NULL)) return;
    if (strlen(text) == length && length > 2 && text[0] == '"' && !strpbrk(text, "\r\n"))
        memcpy(b->tag, text, length + 1);
    free(text);
}

void wane_blob_tag(wane_blob *b, const char *tag)
{
    /* a weak one promises nothing about bytes */
    bool strong = tag[0] == '"' && strlen(tag) < sizeof b->tag;
    snprintf(b->tag, sizeof b->tag, "%s", strong ? tag : "");
    unlink(b->sidecar);
    if (!strong || b->f.size < WORTH_A_TAG) return;
    int fd = open(b->sidecar, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) return;
    /* neither checked nor synced: without it the hash alone tells whether the parts fit together */
    if (write(fd, b->tag, strlen(b->tag)) < 0) errno = 0;
    close(fd);
}

/* A file of the right size to read from; 0 or -1. */
static int open_source(wane_blob *b, const char *path)
{
    struct stat about;
    b->source = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (b->source >= 0 && !fstat(b->source, &about) && S_ISREG(about.st_mode) &&
        (uint64_t)about.st_size == b->f.size)
        return 0;
    shut(&b->source);
    return -1;
}

static wane_status prepare_partial(wane_blob *b, wane_err *e)
{
    struct stat about;
    wane_status s = open_partial(b, e);
    if (s) return s;
    if (fstat(b->fd, &about)) return wane_fail_io(e, "read", b->f.partial);
    if (!S_ISREG(about.st_mode) || (uint64_t)about.st_size > b->f.size)
        return wane_blob_restart(b, e);
    b->slice = (uint64_t)about.st_size;
    read_tag(b);
    if (b->slice == 0 && open_source(b, b->f.copy) == 0) {
        b->slice = b->f.size;
        b->copying = true;
    }
    /* known to fit before anything is fetched; a file system may not know the call */
    if (b->f.size && fallocate(b->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)b->f.size) &&
        (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
        return disk_error(b, b->f.size - (uint64_t)about.st_size, e);
    return WANE_OK;
}

wane_status wane_blob_prepare(wane_blob *b, bool *done, wane_err *e)
{
    struct stat about;
    *done = false;
    wane_status s = start_digest(b, e);
    if (s) return s;
    if (lstat(b->f.path, &about)) return prepare_partial(b, e);
    if (S_ISREG(about.st_mode) && (uint64_t)about.st_size == b->f.size) {
        if (!b->f.verify) {
            *done = true;
            return make_link(b, e);
        }
        if (open_source(b, b->f.path)) return wane_fail_io(e, "read", b->f.path);
        b->slice = b->f.size;
        b->checking = true;
        return WANE_OK;
    }
    if (!b->f.replace || S_ISDIR(about.st_mode)) return in_the_way(b, e);
    if (unlink(b->f.path)) return wane_fail_io(e, "remove", b->f.path);
    return prepare_partial(b, e);
}

static wane_status write_at(wane_blob *b, const char *data, size_t bytes, wane_err *e)
{
    uint64_t at = b->at;
    while (bytes) {
        ssize_t n = pwrite(b->fd, data, bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return disk_error(b, b->f.size - at, e);
        data += n;
        at += (uint64_t)n;
        bytes -= (size_t)n;
    }
    return WANE_OK;
}

wane_status wane_blob_append(wane_blob *b, const void *data, size_t bytes, wane_err *e)
{
    wane_status s = write_at(b, data, bytes, e);
    if (!s && !EVP_DigestUpdate(b->digest, data, bytes)) s = no_memory(e);
    if (!s) b->at += bytes;
    return s;
}

/* All of source is read: a whole file that was there, or a copy, may be right. */
static wane_status end_of_source(wane_blob *b, bool *done, wane_err *e)
{
    bool good;
    wane_status s;
    shut(&b->source);
    if (b->checking) {
        b->checking = false;
        if (hash_is_right(b)) {
            *done = true;
            return make_link(b, e);
        }
        if (!b->f.replace) return in_the_way(b, e);
        if (unlink(b->f.path)) return wane_fail_io(e, "remove", b->f.path);
        s = start_digest(b, e);
        return s ? s : prepare_partial(b, e);
    }
    if (!b->copying) return WANE_OK;
    s = wane_blob_finish(b, &good, e);
    if (s) return s;
    *done = good;
    return good ? WANE_OK : wane_blob_restart(b, e);
}

wane_status wane_blob_slice(wane_blob *b, bool *done, wane_err *e)
{
    wane_status s = WANE_OK;
    *done = false;
    char *piece = malloc(PIECE);
    if (!piece) return no_memory(e);
    int from = b->source >= 0 ? b->source : b->fd;
    for (size_t n = 0; !s && b->slice && n < SLICE;) {
        size_t wanted = b->slice < PIECE ? (size_t)b->slice : PIECE;
        ssize_t got = pread(from, piece, wanted, (off_t)b->at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) { /* shorter than it was: what is read so far stands */
            if (got < 0) s = wane_fail_io(e, "read", b->f.name);
            b->slice = 0;
            break;
        }
        if (b->copying) s = write_at(b, piece, (size_t)got, e);
        if (!s && !EVP_DigestUpdate(b->digest, piece, (size_t)got)) s = no_memory(e);
        if (s) break;
        b->at += (uint64_t)got;
        b->slice -= (uint64_t)got;
        n += (size_t)got;
    }
    free(piece);
    if (!s && !b->slice) s = end_of_source(b, done, e);
    return s;
}

wane_status wane_blob_finish(wane_blob *b, bool *good, wane_err *e)
{
    *good = b->at == b->f.size && hash_is_right(b);
    if (!*good) return WANE_OK;
    if (fsync(b->fd)) return disk_error(b, 0, e);
    if (rename(b->f.partial, b->f.path)) return wane_fail_io(e, "write", b->f.path);
    shut(&b->fd);
    unlink(b->sidecar);
    char *folder = strdup(b->f.path);
    if (!folder) return no_memory(e);
    char *slash = strrchr(folder, '/');
    if (slash) *slash = 0;
    wane_status s = wane_dir_sync(slash ? folder : ".", e);
    free(folder);
    return s ? s : make_link(b, e);
}
