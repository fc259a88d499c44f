/* checkpoint.c - see checkpoint.h.
 *
 * A folder holds config.json and either model.safetensors or model.safetensors.index.json, whose
 * weight_map says which shard holds a tensor. Where both are there the index is taken. The folder
 * is not trusted: shard names are plain names, and files must lie in the folder itself, with one
 * exception: the Hugging Face Hub's cache, where snapshots/REVISION/NAME is a link to
 * ../../blobs/HASH of the same repository. */
#include "runtime/model/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/nearest.h"
#include "runtime/base/units.h"

static const char SINGLE[] = "model.safetensors", INDEX[] = "model.safetensors.index.json";
static const char FETCH[] = "a model of the Hub is fetched with: wane get ORG/MODEL";
static const uint64_t INDEX_MOST = 512 << 20;
enum { SHARDS_MOST = 4096, TENSORS_MOST = 4000000, LISTED = 10 };

static wane_status no_memory(wane_err *e)
{
    return wane_fail(e, WANE_EOOM, "host: no memory for the list of a checkpoint's tensors");
}

/* "DIR/NAME: text" with the path field; name may be NULL. */
__attribute__((format(printf, 5, 6))) static wane_status refuse(const wane_checkpoint *c,
                                                                const char *name, wane_status s,
                                                                wane_err *e, const char *format,
                                                                ...)
{
    char path[PATH_MAX], shown[320], text[680];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, name ? "%s/%s" : "%s", c->dir, name ? name : "");
    wane_escape(shown, sizeof shown, path, strlen(path));
    wane_fail(e, s, "%s: %s", shown, text);
    wane_err_at(e, "load", NULL, path);
    return s;
}

/* Keeps a line for wane_checkpoint.warning; a lost one does no harm. */
__attribute__((format(printf, 2, 3))) static void warn(wane_checkpoint *c, const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    if (vasprintf(&text, format, args) < 0) text = NULL;
    va_end(args);
    char **more = text ? realloc(c->warning, (size_t)(c->n_warnings + 1) * sizeof *more) : NULL;
    if (!more) {
        free(text);
        return;
    }
    c->warning = more;
    c->warning[c->n_warnings++] = text;
}

/* A name that stays in its folder. */
static bool plain(const char *name, size_t length)
{
    return length > 0 && length < 256 && strlen(name) == length && !strchr(name, '/') &&
           strcmp(name, ".") && strcmp(name, "..");
}

/* Whether dir is REPOSITORY/snapshots/REVISION and the link reads ../../blobs/HASH. */
static bool hub_link(const char *dir, const char *target)
{
    static const char prefix[] = "../../blobs/";
    char real[PATH_MAX];
    if (strncmp(target, prefix, sizeof prefix - 1)) return false;
    const char *hash = target + sizeof prefix - 1;
    if (!plain(hash, strlen(hash)) || hash[0] == '.') return false;
    if (!realpath(dir, real)) return false;
    char *slash = strrchr(real, '/');
    if (!slash) return false;
    *slash = 0;
    slash = strrchr(real, '/');
    return slash && !strcmp(slash, "/snapshots");
}

/* Opens NAME in the folder, following no link out of it but the Hub's. -1 with errno; EXDEV: it
 * leads out. */
static int open_within(const char *dir, int dirfd, const char *name)
{
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof how);
    if (fd >= 0) return fd;
    if (errno == ENOSYS || errno == EPERM) { /* before Linux 5.6, or forbidden by a sandbox */
        fd = openat(dirfd, name, (int)how.flags | O_NOFOLLOW);
        if (fd >= 0 || errno != ELOOP) return fd;
        errno = EXDEV;
    }
    if (errno != EXDEV) return -1;
    char target[PATH_MAX];
    ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);
    if (n > 0) {
        target[n] = 0;
        if (hub_link(dir, target)) return openat(dirfd, target, (int)how.flags | O_NOFOLLOW);
    }
    errno = EXDEV;
    return -1;
}

/* Opens one shard. wane_safetensors_open takes a path, so what it opened must be the file that was
 * found to lie within. */
static wane_status open_shard(wane_checkpoint *c, int dirfd, const char *name,
                              wane_safetensors **out, wane_err *e)
{
    char path[PATH_MAX];
    struct stat wanted, opened;
    *out = NULL;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", c->dir, name) >= sizeof path)
        return refuse(c, NULL, WANE_EIO, e, "the path is too long");
    int fd = open_within(c->dir, dirfd, name);
    if (fd < 0 && errno == EXDEV)
        return refuse(c, name, WANE_EFORMAT, e,
                      "is a link that leads out of the folder; put the file itself there");
    if (fd < 0) return wane_fail_io(e, "open", path);
    wane_status s = WANE_OK;
    if (fstat(fd, &wanted))
        s = wane_fail_io(e, "open", path);
    else if (!S_ISREG(wanted.st_mode))
        s = refuse(c, name, WANE_EFORMAT, e, "is not a file");
    if (!s) s = wane_safetensors_open(path, out, e);
    if (!s && (fstat((*out)->fd, &opened) || opened.st_dev != wanted.st_dev ||
               opened.st_ino != wanted.st_ino))
        s = refuse(c, name, WANE_EFORMAT, e, "was replaced while it was opened; try again");
    if (s) {
        wane_safetensors_close(*out);
        *out = NULL;
    }
    close(fd);
    return s;
}

/* The first failure of several is the one that is returned. */
static void note(wane_status *first, wane_status s, const wane_err *here, wane_err *e)
{
    if (!s || *first) return;
    *e = *here;
    *first = s;
}

static wane_status tell(wane_findings *all, wane_status s, const wane_err *e)
{
    return s ? wane_findings_add(all, e) : WANE_OK;
}

bool wane_checkpoint_file(const char *dir, const char *name)
{
    struct stat about;
    int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = dirfd >= 0 ? open_within(dir, dirfd, name) : -1;
    bool there = fd >= 0 && !fstat(fd, &about) && S_ISREG(about.st_mode);
    if (fd >= 0) close(fd);
    if (dirfd >= 0) close(dirfd);
    return there;
}

/* Links that lead out are read, as whoever put them there may want, but never copied: what they
 * show may be anybody's. */
static void warn_of_links(wane_checkpoint *c)
{
    DIR *d = opendir(c->dir);
    for (struct dirent *f; d && (f = readdir(d));) {
        char shown[128];
        if (f->d_type != DT_LNK || wane_checkpoint_file(c->dir, f->d_name)) continue;
        wane_escape(shown, sizeof shown, f->d_name, strlen(f->d_name));
        warn(c, "%s is a link to no file of this folder; saving leaves it out", shown);
    }
    if (d) closedir(d);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Appends to a list in a message, cut where it is full. */
static void list(char *text, size_t size, const char *name)
{
    char shown[128];
    size_t at = strlen(text);
    wane_escape(shown, sizeof shown, name, strlen(name));
    snprintf(text + at, size - at, "%s%s", at ? ", " : "", shown);
}

/* The distinct shard names of a weight_map, sorted; *out is free'd by the caller, the names are the
 * map's. */
static wane_status shard_names(const wane_checkpoint *c, json_t *map, const char ***out, int *n,
                               wane_err *e)
{
    const char *key, *previous = NULL;
    json_t *value;
    size_t count = 0, kept = 0, size = json_object_size(map);
    const char **name = malloc((size ? size : 1) * sizeof *name);
    *out = name;
    if (!name) return no_memory(e);
    json_object_foreach(map, key, value)
    {
        char shown[128];
        const char *v = json_string_value(value);
        if (!v) {
            wane_escape(shown, sizeof shown, key, strlen(key));
            return refuse(c, INDEX, WANE_EFORMAT, e, "weight_map: %s has no file name", shown);
        }
        wane_escape(shown, sizeof shown, v, json_string_length(value));
        if (!plain(v, json_string_length(value)))
            return refuse(c, INDEX, WANE_EFORMAT, e,
                          "weight_map: \"%s\" is not a plain file name in this folder", shown);
        if (!wane_ends(v, ".safetensors"))
            return refuse(c, INDEX, WANE_EFORMAT, e, "weight_map: \"%s\" is not a safetensors file",
                          shown);
        name[count++] = v;
    }
    qsort(name, count, sizeof *name, compare_names);
    for (size_t i = 0; i < count; i++) {
        if (previous && !strcmp(previous, name[i])) continue;
        previous = name[kept++] = name[i];
    }
    if (kept == 0) return refuse(c, INDEX, WANE_EFORMAT, e, "weight_map is empty");
    if (kept > SHARDS_MOST)
        return refuse(c, INDEX, WANE_EFORMAT, e, "weight_map names more than %d files",
                      SHARDS_MOST);
    *n = (int)kept;
    return WANE_OK;
}

/* All missing shards at once: the next download fetches them together. */
static wane_status check_present(const wane_checkpoint *c, int dirfd, const char *const *name,
                                 int n, wane_err *e)
{
    char text[480] = "";
    int missing = 0;
    for (int i = 0; i < n; i++) {
        struct stat about;
        if (!fstatat(dirfd, name[i], &about, 0) || errno != ENOENT) continue;
        list(text, sizeof text, name[i]);
        missing++;
    }
    if (!missing) return WANE_OK;
    return refuse(c, INDEX, WANE_EFORMAT, e, "%d of %d files are missing: %s; %s", missing, n, text,
                  FETCH);
}

static int compare_located(const void *a, const void *b)
{
    const wane_located *x = a, *y = b;
    return strcmp(x->entry->name, y->entry->name);
}

static const char *base_name(const wane_safetensors *f)
{
    const char *slash = strrchr(f->path, '/');
    return slash ? slash + 1 : f->path;
}

/* Fills tensor, count and bytes from the shards; a name in two of them is refused. */
static wane_status gather(wane_checkpoint *c, wane_err *e)
{
    size_t count = 0, at = 0;
    char shown[128];
    for (int i = 0; i < c->n_shards; i++) count += c->shard[i]->count;
    if (count > TENSORS_MOST)
        return refuse(c, NULL, WANE_EFORMAT, e, "has more than %d tensors", TENSORS_MOST);
    c->tensor = malloc((count ? count : 1) * sizeof *c->tensor);
    if (!c->tensor) return no_memory(e);
    for (int i = 0; i < c->n_shards; i++)
        for (size_t k = 0; k < c->shard[i]->count; k++)
            c->tensor[at++] = (wane_located){&c->shard[i]->entries[k], c->shard[i]};
    qsort(c->tensor, count, sizeof *c->tensor, compare_located);
    c->count = count;
    for (size_t i = 0; i < count; i++) {
        const wane_located *t = &c->tensor[i];
        if (!wane_add(c->bytes, t->entry->end - t->entry->begin, &c->bytes))
            return refuse(c, NULL, WANE_EFORMAT, e, "the sizes of its tensors do not add up");
        if (i == 0 || strcmp(t[-1].entry->name, t->entry->name)) continue;
        wane_escape(shown, sizeof shown, t->entry->name, strlen(t->entry->name));
        refuse(c, NULL, WANE_EFORMAT, e, "tensor %s is in two files, %s and %s", shown,
               base_name(t[-1].shard), base_name(t->shard));
        if (e) snprintf(e->tensor, sizeof e->tensor, "%s", shown);
        return WANE_EFORMAT;
    }
    return WANE_OK;
}

static const wane_located *locate(const wane_checkpoint *c, const char *name)
{
    wane_entry key = {.name = (char *)(uintptr_t)name};
    wane_located wanted = {&key, NULL};
    return bsearch(&wanted, c->tensor, c->count, sizeof wanted, compare_located);
}

/* Every tensor of the index is where it says; tensors that it does not name are worth a warning. */
static wane_status check_index(wane_checkpoint *c, json_t *index, json_t *map, wane_findings *all,
                               wane_err *e)
{
    const char *key;
    json_t *value;
    wane_status s = WANE_OK;
    json_object_foreach(map, key, value)
    {
        char shown[128];
        wane_err here;
        const char *said = json_string_value(value);
        const wane_located *t = locate(c, key);
        if (t && !strcmp(base_name(t->shard), said)) continue;
        wane_escape(shown, sizeof shown, key, strlen(key));
        if (t)
            refuse(c, INDEX, WANE_EFORMAT, &here, "says that tensor %s is in %s, but it is in %s",
                   shown, said, base_name(t->shard));
        else
            refuse(c, INDEX, WANE_EFORMAT, &here,
                   "says that tensor %s is in %s, but it is in no file", shown, said);
        snprintf(here.tensor, sizeof here.tensor, "%s", shown);
        note(&s, wane_findings_add(all, &here), &here, e);
        if (!all) return s;
    }
    if (c->count > json_object_size(map))
        warn(c, "%s does not list %zu of the files' tensors", INDEX,
             c->count - json_object_size(map));
    const json_t *total = json_object_get(json_object_get(index, "metadata"), "total_size");
    if (total && (uint64_t)json_integer_value(total) != c->bytes)
        warn(c, "%s says %" JSON_INTEGER_FORMAT " bytes in all; the files hold %" PRIu64, INDEX,
             json_integer_value(total), c->bytes);
    return s;
}

/* All shards of a list, or as many as can be opened. */
static wane_status open_shards(wane_checkpoint *c, int dirfd, const char *const *name, int n,
                               wane_findings *all, wane_err *e)
{
    wane_status s = WANE_OK;
    c->shard = calloc((size_t)n, sizeof(wane_safetensors *));
    if (!c->shard) return no_memory(e);
    for (int i = 0; i < n && (!s || all); i++) {
        wane_err here;
        if (s && faccessat(dirfd, name[i], F_OK, AT_SYMLINK_NOFOLLOW)) continue; /* told already */
        wane_status one = open_shard(c, dirfd, name[i], &c->shard[c->n_shards], &here);
        c->n_shards += !one;
        if (one) note(&s, wane_findings_add(all, &here), &here, e);
    }
    return s;
}

static wane_status open_indexed(wane_checkpoint *c, int dirfd, wane_findings *all, wane_err *e)
{
    char path[PATH_MAX];
    json_t *index = NULL, *map = NULL;
    const char **name = NULL;
    int n = 0;
    wane_err other;
    snprintf(path, sizeof path, "%s/%s", c->dir, INDEX);
    wane_status s = wane_json_load(path, INDEX_MOST, &index, e);
    if (!s) map = json_object_get(index, "weight_map");
    if (!s && !json_is_object(map)) s = refuse(c, INDEX, WANE_EFORMAT, e, "has no weight_map");
    if (!s) s = shard_names(c, map, &name, &n, e);
    if (!s) s = check_present(c, dirfd, name, n, e);
    tell(all, s, e);
    if (n && (!s || all)) note(&s, open_shards(c, dirfd, name, n, all, &other), &other, e);
    if (!s) s = tell(all, gather(c, e), e);
    if (!s) s = check_index(c, index, map, all, e);
    free(name);
    json_decref(index);
    return s;
}

static wane_status open_single(wane_checkpoint *c, int dirfd, wane_err *e)
{
    c->shard = calloc(1, sizeof(wane_safetensors *));
    if (!c->shard) return no_memory(e);
    wane_status s = open_shard(c, dirfd, SINGLE, &c->shard[0], e);
    if (s) return s;
    c->n_shards = 1;
    return gather(c, e);
}

/* Neither file is there: say what is. */
static wane_status refuse_empty(const wane_checkpoint *c, int dirfd, wane_err *e)
{
    static const char *const pickles[] = {
        "pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.pth", "model.ckpt",
        "model.pkl",         "consolidated.00.pth",
    };
    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        if (faccessat(dirfd, pickles[i], F_OK, AT_SYMLINK_NOFOLLOW)) continue;
        return refuse(c, pickles[i], WANE_EUNSUPPORTED, e,
                      "holds Python objects, which wane never reads, as they can run code; convert "
                      "it with https://huggingface.co/spaces/safetensors/convert");
    }
    return refuse(c, NULL, WANE_EFORMAT, e, "has neither %s nor %s; %s", SINGLE, INDEX, FETCH);
}

/* The weights of a folder, whatever its config. */
static wane_status open_weights(wane_checkpoint *c, int dirfd, wane_findings *all, wane_err *e)
{
    bool indexed = !faccessat(dirfd, INDEX, F_OK, 0), single = !faccessat(dirfd, SINGLE, F_OK, 0);
    if (indexed && single) warn(c, "%s is there beside %s, which is taken", SINGLE, INDEX);
    if (indexed) return open_indexed(c, dirfd, all, e);
    return tell(all, single ? open_single(c, dirfd, e) : refuse_empty(c, dirfd, e), e);
}

/* A family that the tables lack is refused with what its weights have that they do not. */
static void say_lacking(const wane_checkpoint *c, wane_err *e)
{
    char lacking[440];
    size_t at = strlen(e->message);
    if (wane_checkpoint_lacking(c, lacking, sizeof lacking))
        snprintf(e->message + at, sizeof e->message - at, "; %s", lacking);
}

static wane_status open_folder(wane_checkpoint *c, int dirfd, wane_findings *all, wane_err *e)
{
    wane_err other;
    size_t at = all ? all->count : 0;
    wane_status s = wane_config_survey(c->dir, &c->config, all, e), weights;
    if (s && s != WANE_EUNSUPPORTED && !all) return s;
    if (json_object_get(c->config.json, "auto_map"))
        warn(c, "config.json names code of its own (auto_map), which wane ignores");
    weights = open_weights(c, dirfd, all, &other);
    c->whole = !weights;
    if (s == WANE_EUNSUPPORTED && c->whole) {
        say_lacking(c, e);
        if (all && at < all->count) all->item[at] = *e; /* the first that it found */
    }
    note(&s, weights, &other, e);
    return s;
}

wane_status wane_checkpoint_survey(const char *dir, wane_checkpoint **out, wane_findings *all,
                                   wane_err *e)
{
    *out = NULL;
    wane_checkpoint *c = calloc(1, sizeof *c);
    if (!c) return no_memory(e);
    c->refs = 1;
    int dirfd = -1;
    wane_status s = WANE_OK;
    if (strlen(dir) + sizeof INDEX + 1 >= PATH_MAX) {
        s = tell(all, wane_fail(e, WANE_EIO, "the folder's path is too long"), e);
        goto done;
    }
    c->dir = strdup(dir);
    if (!c->dir) {
        s = no_memory(e);
        goto done;
    }
    dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dirfd < 0) {
        s = errno == ENOENT    ? refuse(c, NULL, WANE_EIO, e, "there is no such folder; %s", FETCH)
            : errno == ENOTDIR ? refuse(c, NULL, WANE_EIO, e, "is a file; name its folder")
                               : wane_fail_io(e, "open the model's folder", dir);
        tell(all, s, e);
        goto done;
    }
    s = open_folder(c, dirfd, all, e);
    if (!s) warn_of_links(c);
done:
    if (dirfd >= 0) close(dirfd);
    if (!s || (all && c->whole))
        *out = c;
    else
        wane_checkpoint_release(c);
    return s;
}

wane_status wane_checkpoint_open(const char *dir, wane_checkpoint **out, wane_err *e)
{
    wane_err own;
    return wane_checkpoint_survey(dir, out, NULL, e ? e : &own);
}

wane_checkpoint *wane_checkpoint_retain(wane_checkpoint *c)
{
    c->refs++;
    return c;
}

void wane_checkpoint_release(wane_checkpoint *c)
{
    if (!c || --c->refs > 0) return;
    wane_ahead_free(c->ahead); /* it reads from the shards */
    for (int i = 0; i < c->n_shards; i++) wane_safetensors_close(c->shard[i]);
    for (int i = 0; i < c->n_warnings; i++) free(c->warning[i]);
    wane_config_free(&c->config);
    free(c->shard);
    free(c->tensor);
    free(c->warning);
    free(c->dir);
    free(c);
}

const wane_entry *wane_checkpoint_find(const wane_checkpoint *c, const char *name,
                                       const wane_safetensors **where)
{
    static const char prefix[] = "model.";
    const wane_located *t = locate(c, name);
    if (!t && !strncmp(name, prefix, sizeof prefix - 1)) t = locate(c, name + sizeof prefix - 1);
    if (where) *where = t ? t->shard : NULL;
    return t ? t->entry : NULL;
}

uint64_t wane_checkpoint_bytes(const wane_checkpoint *c, const char *name)
{
    const wane_entry *t = wane_checkpoint_find(c, name, NULL);
    return t ? t->end - t->begin : 0;
}

const char *wane_entry_describe(const wane_entry *t, char *out, size_t size)
{
    size_t at = (size_t)snprintf(out, size, "%s (", t->dtype_name);
    for (int i = 0; i < t->rank && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%" PRId64, i ? ", " : "", t->shape[i]);
    if (at < size) snprintf(out + at, size - at, ")");
    return out;
}

bool wane_entry_floating(const wane_entry *t)
{
    return t->supported && (t->dtype == WANE_F32 || t->dtype == WANE_F16 || t->dtype == WANE_BF16);
}

static wane_status refuse_absent(const wane_checkpoint *c, const char *name, wane_err *e)
{
    const char **names = malloc((c->count ? c->count : 1) * sizeof *names), *near = NULL;
    char shown[200];
    for (size_t i = 0; names && i < c->count; i++) names[i] = c->tensor[i].entry->name;
    if (names) near = wane_nearest(name, names, c->count);
    wane_escape(shown, sizeof shown, near ? near : "", near ? strlen(near) : 0);
    refuse(c, NULL, WANE_EFORMAT, e, "tensor %s is missing%s%s%s", name, near ? " (nearest: " : "",
           shown, near ? ")" : "");
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s", name);
    free(names);
    return WANE_EFORMAT;
}

/* A tensor whose bytes are in memory already. */
static wane_status put_read(const wane_entry *t, const void *bytes, wane_device *d,
                            wane_tensor **out, wane_err *e)
{
    wane_status s = wane_tensor_new(d, t->dtype, t->rank, t->shape, out, e);
    if (!s) s = wane_tensor_put(*out, bytes, e);
    if (!s) return s;
    wane_tensor_release(*out);
    *out = NULL;
    return wane_err_at(e, "load", NULL, NULL);
}

wane_status wane_checkpoint_get(const wane_checkpoint *c, const char *name, int rank,
                                const int64_t *shape, wane_device *d, wane_tensor **out,
                                wane_err *e)
{
    char is[256], wanted[256] = "";
    const wane_safetensors *where;
    const wane_entry *t = wane_checkpoint_find(c, name, &where);
    *out = NULL;
    if (!t) return refuse_absent(c, name, e);
    bool fits = wane_entry_floating(t) && t->rank == rank;
    for (int i = 0; i < rank && fits; i++) fits = shape[i] < 0 || shape[i] == t->shape[i];
    const void *bytes = fits && c->ahead ? wane_ahead_find(c->ahead, t) : NULL;
    if (bytes) return put_read(t, bytes, d, out, e);
    if (fits) return wane_safetensors_load(where, t, d, out, e);
    for (int i = 0; i < rank; i++) {
        size_t at = strlen(wanted);
        snprintf(wanted + at, sizeof wanted - at, shape[i] < 0 ? "%sany" : "%s%" PRId64,
                 i ? ", " : "", shape[i]);
    }
    refuse(c, base_name(where), WANE_EUNSUPPORTED, e,
           "tensor %s is %s; wanted are F32, F16 or BF16 of (%s)", name,
           wane_entry_describe(t, is, sizeof is), wanted);
    if (e) snprintf(e->tensor, sizeof e->tensor, "%s", name);
    return WANE_EUNSUPPORTED;
}
