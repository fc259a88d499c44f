/* test_files.c - whole reads, atomic writes and what is left after a failed one, folders, locks,
 * SHA-256. */
#include "tests/c/test.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "tests/c/files.h"

static int setup(void **state)
{
    return *state = test_folder(), 0;
}
static int teardown(void **state)
{
    return test_folder_remove(*state), 0;
}

static void sha256(void **state)
{
    (void)state;
    /* FIPS 180-4's examples, as NIST publishes them */
    static const struct {
        const char *text, *hex;
        int times;
    } row[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 1},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 1},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1", 1},
        {"aaaaaaaaaa", "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", 100000},
    };
    wane_sha256 s;
    char hex[65];
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        wane_sha256_start(&s);
        for (int j = 0; j < row[i].times; j++)
            wane_sha256_add(&s, row[i].text, strlen(row[i].text));
        wane_sha256_hex(&s, hex);
        assert_string_equal(hex, row[i].hex);
    }
}

/* In pieces, and without the processor's own instructions: the same. */
static void sha256_in_pieces(void **state)
{
    (void)state;
    char data[200], whole[65], pieces[65];
    wane_sha256 s;
    for (int i = 0; i < 200; i++) data[i] = (char)(i * 7);
    for (size_t n = 0; n <= sizeof data; n++) {
        wane_sha256_start(&s);
        wane_sha256_add(&s, data, n);
        wane_sha256_hex(&s, whole);
        wane_sha256_start(&s);
        s.instructions = false;
        wane_sha256_add(&s, data, n);
        wane_sha256_hex(&s, pieces);
        assert_string_equal(whole, pieces);
        wane_sha256_start(&s);
        for (size_t at = 0; at < n; at += 13)
            wane_sha256_add(&s, data + at, n - at < 13 ? n - at : 13);
        wane_sha256_hex(&s, pieces);
        assert_string_equal(whole, pieces);
    }
}

static void reading(void **state)
{
    const char *path = test_path(*state, "a");
    char *text;
    size_t length;
    wane_err e;
    test_write(path, "one\0two", 7);
    assert_int_equal(wane_file_read_all(path, 7, &text, &length, &e), WANE_OK);
    assert_int_equal(length, 7);
    assert_memory_equal(text, "one\0two", 8);
    free(text);
    assert_int_equal(wane_file_read_all(path, 6, &text, &length, &e), WANE_EFORMAT);
    assert_null(text);
    assert_non_null(strstr(e.message, "larger than"));
    assert_string_equal(e.path, path);
    assert_int_equal(wane_file_read_all(test_path(*state, "no\nsuch"), 7, &text, &length, &e),
                     WANE_EIO);
    assert_non_null(strstr(e.message, "no\\x0asuch: No such file"));
    assert_int_equal(wane_file_read_all(*state, 7, &text, &length, &e), WANE_EIO);
    /* a file that says it is empty and is not */
    assert_int_equal(wane_file_read_all("/proc/self/stat", 1 << 20, &text, &length, &e), WANE_OK);
    assert_true(length > 10);
    free(text);
    assert_int_equal(wane_file_read_all("/dev/zero", 100000, &text, &length, &e), WANE_EFORMAT);
}

static void expect_content(const char *path, const char *expected)
{
    char *text;
    size_t length;
    assert_int_equal(wane_file_read_all(path, 1 << 20, &text, &length, NULL), WANE_OK);
    assert_string_equal(text, expected);
    free(text);
}

static void writing(void **state)
{
    const char *path = test_path(*state, "out");
    wane_err e;
    wane_writer *w;
    assert_int_equal(wane_file_write_all(path, "old", 3, &e), WANE_OK);
    assert_int_equal(wane_writer_open(path, &w, &e), WANE_OK);
    assert_int_equal(wane_writer_reserve(w, 4096, &e), WANE_OK);
    assert_int_equal(wane_writer_write(w, "new", 3, &e), WANE_OK);
    expect_content(path, "old"); /* until commit */
    expect_content(wane_writer_temporary(w), "new");
    assert_int_equal(wane_writer_commit(w, &e), WANE_OK);
    expect_content(path, "new");
    assert_int_equal(wane_writer_open(path, &w, &e), WANE_OK);
    assert_int_equal(wane_writer_write(w, "never", 5, &e), WANE_OK);
    wane_writer_discard(w);
    wane_writer_discard(NULL);
    expect_content(path, "new");
    assert_int_equal(test_count(*state), 1);
    assert_int_equal(wane_file_write_all(test_path(*state, "no/such/folder"), "x", 1, &e),
                     WANE_EIO);
    assert_non_null(strstr(e.message, "No such file"));
    assert_int_equal(wane_file_write_all(*state, "x", 1, &e),
                     WANE_EIO); /* a folder is in the way */
    char *odd = (char *)test_path(*state, "-a b\n\xff~");
    assert_int_equal(wane_file_write_all(odd, "x", 1, &e), WANE_OK);
    expect_content(odd, "x");
}

static void two_writers(void **state)
{
    const char *path = test_path(*state, "out");
    wane_writer *a, *b;
    assert_int_equal(wane_writer_open(path, &a, NULL), WANE_OK);
    assert_int_equal(wane_writer_open(path, &b, NULL), WANE_OK);
    assert_string_not_equal(wane_writer_temporary(a), wane_writer_temporary(b));
    assert_int_equal(wane_writer_write(a, "first", 5, NULL), WANE_OK);
    assert_int_equal(wane_writer_write(b, "second", 6, NULL), WANE_OK);
    assert_int_equal(wane_writer_commit(b, NULL), WANE_OK);
    expect_content(path, "second");
    assert_int_equal(wane_writer_commit(a, NULL), WANE_OK);
    expect_content(path, "first");
}

/* Files may not grow over 100 bytes: the write of 1000 stops in the middle. */
static void a_write_that_fails(void **state)
{
    const char *path = test_path(*state, "out");
    char data[1000] = {0};
    struct rlimit old, small;
    wane_writer *w;
    wane_err e, again;
    assert_int_equal(wane_file_write_all(path, "old", 3, &e), WANE_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    small = old;
    small.rlim_cur = 100;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    wane_status all = wane_file_write_all(path, data, sizeof data, &e);
    wane_status opened = wane_writer_open(path, &w, &again);
    wane_status first = wane_writer_write(w, data, sizeof data, &again);
    wane_status later = wane_writer_write(w, "x", 1, NULL);
    wane_status last = wane_writer_commit(w, &again);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(all, WANE_EIO);
    assert_non_null(strstr(e.message, "File too large"));
    assert_int_equal(e.requested, 900);
    assert_true(e.free > 0);
    assert_string_equal(e.path, path);
    assert_int_equal(opened, WANE_OK);
    assert_int_equal(first, WANE_EIO);
    assert_int_equal(later, WANE_EIO);
    assert_int_equal(last, WANE_EIO); /* the first failure's words */
    assert_non_null(strstr(again.message, "900 B asked for"));
    expect_content(path, "old");
    assert_int_equal(test_count(*state), 1);
}

/* Runs f in a child that may change what it likes; its result, or -1 where it died. */
static int in_child(int (*f)(const char *), const char *folder)
{
    int status;
    pid_t child = fork();
    if (child == 0) _exit(f(folder));
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
    return WEXITSTATUS(status);
}

enum { GOOD = 0, SKIPPED = 77 }; /* what children return; a line number where something is wrong */
#define EXPECT(x)                                                                                  \
    do {                                                                                           \
        if (!(x)) return __LINE__ % 70 + 1;                                                        \
    } while (0)

static int full_disk(const char *folder)
{
    static char data[100000];
    wane_err e;
    wane_writer *w;
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("tmpfs", folder, "tmpfs", 0, "size=64k"))
        return SKIPPED;
    const char *path = test_path(folder, "out");
    EXPECT(wane_file_write_all(path, "old", 3, &e) == WANE_OK);
    EXPECT(wane_file_write_all(path, data, sizeof data, &e) == WANE_EIO);
    EXPECT(strstr(e.message, "No space left on device") && strstr(e.message, "asked for"));
    EXPECT(e.requested > 0 && e.free < sizeof data);
    EXPECT(wane_writer_open(path, &w, &e) == WANE_OK);
    EXPECT(wane_writer_reserve(w, sizeof data, &e) == WANE_EIO && e.requested == sizeof data);
    EXPECT(wane_writer_write(w, "x", 1, &e) == WANE_EIO);
    EXPECT(wane_writer_commit(w, &e) == WANE_EIO);
    char *text;
    size_t length;
    EXPECT(wane_file_read_all(path, 10, &text, &length, &e) == WANE_OK && !strcmp(text, "old"));
    free(text);
    EXPECT(test_count(folder) == 1);
    return umount(folder) ? 1 : GOOD;
}

static void a_full_disk(void **state)
{
    int result = in_child(full_disk, *state);
    if (result == SKIPPED) skip();
    assert_int_equal(result, GOOD);
}

static int read_only(const char *folder)
{
    wane_err e;
    wane_lock *lock;
    if (geteuid() == 0 && (setgid(65534) || setuid(65534))) return SKIPPED;
    EXPECT(wane_file_write_all(test_path(folder, "out"), "x", 1, &e) == WANE_EIO);
    EXPECT(strstr(e.message, "Permission denied"));
    EXPECT(wane_dir_make(test_path(folder, "a/b"), &e) == WANE_EIO);
    EXPECT(wane_lock_take(folder, &lock, &e) == WANE_EIO && !lock);
    return GOOD;
}

static void a_read_only_folder(void **state)
{
    assert_int_equal(chmod(*state, 0555), 0);
    int result = in_child(read_only, *state);
    assert_int_equal(test_count(*state), 0);
    assert_int_equal(chmod(*state, 0755), 0);
    if (result == SKIPPED) skip();
    assert_int_equal(result, GOOD);
}

static void renaming(void **state)
{
    wane_err e;
    const char *a = test_path(*state, "a"), *b = test_path(*state, "b");
    test_write(a, "a", 1);
    test_write(b, "b", 1);
    assert_int_equal(wane_rename(a, b, &e), WANE_EIO);
    assert_non_null(strstr(e.message, "exists"));
    expect_content(a, "a");
    expect_content(b, "b");
    assert_int_equal(wane_rename(a, test_path(*state, "c"), &e), WANE_OK);
    expect_content(test_path(*state, "c"), "a");
    assert_int_equal(wane_rename(a, test_path(*state, "d"), &e), WANE_EIO); /* no longer there */
    const char *from = test_path(*state, "from"), *to = test_path(*state, "to");
    assert_int_equal(wane_dir_make(from, &e), WANE_OK);
    assert_int_equal(wane_dir_make(to, &e), WANE_OK);
    assert_int_equal(wane_rename(from, to, &e), WANE_EIO); /* not even an empty folder */
    assert_int_equal(rmdir(to), 0);
    assert_int_equal(wane_rename(from, to, &e), WANE_OK);
    assert_int_equal(symlink("nowhere", from), 0);
    assert_int_equal(wane_rename(b, from, &e), WANE_EIO); /* nor a link to nothing */
}

static void folders(void **state)
{
    wane_err e;
    struct stat about;
    assert_int_equal(wane_dir_make(test_path(*state, "a/b//c/"), &e), WANE_OK);
    assert_int_equal(stat(test_path(*state, "a/b/c"), &about), 0);
    assert_int_equal(wane_dir_make(test_path(*state, "a/b"), &e), WANE_OK);
    test_write(test_path(*state, "a/file"), "x", 1);
    assert_int_equal(wane_dir_make(test_path(*state, "a/file"), &e), WANE_EIO);
    assert_int_equal(wane_dir_make(test_path(*state, "a/file/under"), &e), WANE_EIO);
    /* what a link points to stays */
    assert_int_equal(wane_dir_make(test_path(*state, "kept"), &e), WANE_OK);
    test_write(test_path(*state, "kept/file"), "x", 1);
    assert_int_equal(symlink(test_path(*state, "kept"), test_path(*state, "a/b/link")), 0);
    assert_int_equal(wane_dir_remove(test_path(*state, "a/b/link"), &e), WANE_EIO);
    assert_int_equal(wane_dir_remove(test_path(*state, "a"), &e), WANE_OK);
    assert_int_equal(test_count(*state), 1);
    assert_int_equal(test_count(test_path(*state, "kept")), 1);
    assert_int_equal(wane_dir_remove(test_path(*state, "a"), &e), WANE_EIO);
    assert_int_equal(wane_dir_sync(*state, &e), WANE_OK);
}

static int take_and_die(const char *folder)
{
    wane_lock *lock;
    return wane_lock_take(folder, &lock, NULL) == WANE_OK ? GOOD : 1;
}

static void locking(void **state)
{
    wane_err e;
    wane_lock *a, *b;
    char process[32];
    assert_int_equal(in_child(take_and_die, *state), GOOD); /* leaves the file, not the lock */
    assert_int_equal(test_count(*state), 1);
    assert_int_equal(wane_lock_take(*state, &a, &e), WANE_OK);
    assert_int_equal(wane_lock_take(*state, &b, &e), WANE_EIO);
    assert_null(b);
    snprintf(process, sizeof process, "process %ld on ", (long)getpid());
    assert_non_null(strstr(e.message, process));
    assert_int_equal(in_child(take_and_die, *state), 1);
    wane_lock_drop(a);
    wane_lock_drop(NULL);
    assert_int_equal(test_count(*state), 0);
    assert_int_equal(wane_lock_take(*state, &b, &e), WANE_OK);
    wane_lock_drop(b);
    assert_int_equal(wane_lock_take(test_path(*state, "none"), &b, &e), WANE_EIO);
}

int test_files(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256),
        cmocka_unit_test(sha256_in_pieces),
        cmocka_unit_test_setup_teardown(reading, setup, teardown),
        cmocka_unit_test_setup_teardown(writing, setup, teardown),
        cmocka_unit_test_setup_teardown(two_writers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_that_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_only_folder, setup, teardown),
        cmocka_unit_test_setup_teardown(renaming, setup, teardown),
        cmocka_unit_test_setup_teardown(folders, setup, teardown),
        cmocka_unit_test_setup_teardown(locking, setup, teardown),
    };
    return cmocka_run_group_tests_name("files", tests, NULL, NULL);
}
