/* test_hub.c - the heads of answers, where a token may go, partial files; the network itself is in
 * tests/spec/hub_spec.lua. */
#include "tests/c/test.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/files.h"
#include "runtime/hub/head.h"
#include "runtime/hub/hub.h"
#include "tests/c/faults.h"
#include "tests/c/files.h"

#ifdef WANE_CURL
#include "runtime/hub/address.h"
#include "runtime/hub/blob.h"
#endif

static const double NOW = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */

static wane_head read_head(const char *text)
{
    wane_head h;
    wane_head_start(&h);
    while (*text) {
        size_t n = strcspn(text, "\n") + 1;
        assert_true(wane_head_line(&h, text, n, NOW));
        text += n;
    }
    return h;
}

static void reads_what_it_needs(void **state)
{
    (void)state;
    wane_head h = read_head(
        "HTTP/1.1 206 Partial Content\r\nCONTENT-length:  10 \r\nContent-Range: bytes 5-14/20\r\n"
        "ETag: \"abc\"\r\nX-Linked-Etag: \"0123456789abcdef0123456789abcdef01234567\"\r\n"
        "Content-Encoding: identity\r\nRetry-After: 7\r\nX-Error-Code: GatedRepo\r\n\r\n");
    assert_int_equal(h.status, 206);
    assert_int_equal(h.length, 10);
    assert_int_equal(h.first, 5);
    assert_int_equal(h.total, 20);
    assert_string_equal(h.etag, "\"abc\"");
    assert_string_equal(h.tagged, "");
    assert_string_equal(h.linked, "0123456789abcdef0123456789abcdef01234567");
    assert_false(h.encoded);
    assert_true(h.retry_after == 7);
    assert_string_equal(h.error_code, "GatedRepo");
    h = read_head("HTTP/1.1 200 OK\r\nX-Linked-Size: 77\r\n"
                  "ETag: W/\"0123456789abcdef0123456789abcdef01234567\"\r\n\r\n");
    assert_int_equal(h.linked_size, 77);
    assert_string_equal(h.tagged, "0123456789abcdef0123456789abcdef01234567");
    assert_string_equal(h.linked, "");
    h = read_head("HTTP/1.1 302 Found\r\nLocation: /x\r\nETag: \"a\"\r\n\r\nHTTP/2 200\r\n\r\n");
    assert_int_equal(h.status, 200);
    assert_string_equal(h.location, "");
    assert_string_equal(h.etag, "");
}

static void takes_no_other_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t first, total;
    } row[] = {
        {"bytes 0-0/1", 0, 1},
        {"bytes */30", -1, 30},
        {"bytes 5-9/*", 5, -1},
        {"Bytes 5-9/10", 5, 10},
        {"bytes 9-5/10", -1, -1},
        {"bytes -5/10", -1, -1},
        {"bytes 5/10", -1, -1},
        {"bytes 99999999999999999999-2/3", -1, -1},
        {"bytes 5-9/99999999999999999999", 5, -1},
        {"items 5-9/10", -1, -1},
        {"bytes", -1, -1},
        {"bytes ", -1, -1},
        {"", -1, -1},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[128];
        snprintf(text, sizeof text, "Content-Range: %s\r\n", row[i].text);
        wane_head h = read_head(text);
        if (h.first != row[i].first || h.total != row[i].total) fail_msg("%s", row[i].text);
    }
}

static void knows_when_to_come_back(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double seconds;
    } row[] = {
        {"0", 0},
        {"120", 120},
        {"99999999999", 1 << 30},
        {"Sun, 06 Nov 1994 08:50:37 GMT", 60},
        {"Sun, 06 Nov 1994 08:49:00 GMT", 0},
        {"Sun, 06 Nov 1994 08:50:37 CET", -1},
        {"Sunday, 06-Nov-94 08:49:37 GMT", -1},
        {"Sun, 06 Nov 99999994 08:50:37 GMT", -1},
        {"Sun, 06 XXX 1994 08:50:37 GMT", -1},
        {"Sun, 06 ovD 1994 08:50:37 GMT", -1},
        {"-5", -1},
        {"1.5", -1},
        {"soon", -1},
        {"", -1},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[128];
        snprintf(text, sizeof text, "Retry-After: %s\r\n", row[i].text);
        wane_head h = read_head(text);
        if (h.retry_after != row[i].seconds) fail_msg("%s: %f", row[i].text, h.retry_after);
    }
}

static void sends_back_only_sound_tags(void **state)
{
    (void)state;
    static const char *const sound[] = {"\"\"", "\"a/b\"", "W/\"x\"", "\"!#~\""};
    static const char *const wrong[] = {"abc",      "\"abc",        "abc\"", "\"a\"b\"", "\"a b\"",
                                        "\"a\tb\"", "\"\xc3\xa4\"", "W/",    "\"",       ""};
    char text[1024];
    for (size_t i = 0; i < sizeof sound / sizeof *sound; i++) {
        snprintf(text, sizeof text, "ETag: %s\r\n", sound[i]);
        wane_head h = read_head(text);
        assert_string_equal(h.etag, sound[i]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(text, sizeof text, "ETag: %s\r\n", wrong[i]);
        wane_head h = read_head(text);
        if (h.etag[0]) fail_msg("%s", wrong[i]);
    }
    memset(text, 'x', sizeof text);
    memcpy(text, "ETag: \"", 7);
    memcpy(text + sizeof text - 4, "\"\r\n", 4);
    wane_head h = read_head(text);
    assert_string_equal(h.etag, "");
}

static void has_limits(void **state)
{
    (void)state;
    wane_head h;
    char *line = malloc(300000);
    assert_non_null(line);
    memset(line, 'x', 300000);
    memcpy(line, "Location: ", 10);
    wane_head_start(&h);
    assert_true(wane_head_line(&h, line, 5000, NOW));
    assert_true(h.location_long);
    assert_string_equal(h.location, "");
    wane_head_start(&h);
    assert_true(wane_head_line(&h, line, 100000, NOW));
    assert_true(h.location_long);
    assert_true(wane_head_line(&h, line, 100000, NOW));
    assert_true(wane_head_line(&h, "HTTP/1.1 100 Continue\r\n", 23, NOW)); /* counts on */
    assert_false(wane_head_line(&h, line, 100000, NOW));
    wane_head_start(&h);
    assert_true(wane_head_line(&h, "ETag: \"a\0b\"\r\n", 13, NOW));
    assert_string_equal(h.etag, "");
    free(line);
    static const struct {
        const char *line;
        int status;
    } row[] = {{"HTTP/1.1 200 OK\r\n", 200}, {"HTTP/2 404\r\n", 404},   {"HTTP/1.1\r\n", 0},
               {"HTTP/1.1 -1 x\r\n", 0},     {"HTTP/1.1 99 x\r\n", 0},  {"HTTP/1.1 2000 x\r\n", 0},
               {"HTTP/1.1  200\r\n", 0},     {"HTTP/1.1 20x OK\r\n", 0}};
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        h = read_head(row[i].line);
        if (h.status != row[i].status) fail_msg("%s", row[i].line);
    }
}

static void knows_names_of_blobs(void **state)
{
    (void)state;
    assert_true(wane_head_hash("0123456789abcdef0123456789abcdef01234567"));
    assert_true(wane_head_hash("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"));
    assert_false(wane_head_hash(""));
    assert_false(wane_head_hash("0123456789abcdef0123456789abcdef0123456"));
    assert_false(wane_head_hash("0123456789ABCDEF0123456789abcdef01234567"));
    assert_false(wane_head_hash("0123456789abcdef0123456789abcdef0123456/"));
    assert_false(wane_head_hash("0123456789abcdef0123456789abcdef01234567\n"));
    wane_head h =
        read_head("X-Linked-Etag: \"../../../../../../../../../../../../etc/passwd\"\r\n");
    assert_string_equal(h.linked, "");
}

#ifdef WANE_CURL
static bool trusted(const char *home, const char *to)
{
    wane_origin a, b;
    assert_true(wane_origin_of(home, &a));
    return wane_origin_of(to, &b) && wane_origin_trusted(&a, &b);
}

static void gives_the_token_to_one_origin(void **state)
{
    (void)state;
    static const char home[] = "https://huggingface.co";
    assert_true(trusted(home, "https://huggingface.co/a/b?c"));
    assert_true(trusted(home, "https://HUGGINGFACE.co:443/a"));
    assert_false(trusted(home, "http://huggingface.co/a"));
    assert_false(trusted(home, "https://huggingface.co:444/a"));
    assert_false(trusted(home, "https://huggingface.co.evil.com/a"));
    assert_false(trusted(home, "https://cdn-lfs.huggingface.co/a"));
    assert_false(trusted(home, "https://evil.com/huggingface.co"));
    assert_false(trusted(home, "https://evil.com\\@huggingface.co/"));
    assert_false(trusted(home, "https://x@huggingface.co/"));
    assert_false(
        trusted("http://mirror.local", "http://mirror.local/a")); /* anybody can read that */
    assert_true(trusted("http://127.0.0.1:8080/x", "http://127.0.0.1:8080/y"));
    assert_true(trusted("http://localhost:1", "http://localhost:1/y"));
    assert_true(trusted("http://[::1]:1", "http://[::1]:1/y"));
    assert_false(trusted("http://127.0.0.1.evil.com", "http://127.0.0.1.evil.com"));
    assert_false(trusted("http://localhost.evil.com", "http://localhost.evil.com"));
    assert_false(trusted("http://127.0.0.1:1", "http://localhost:1"));
}

static bool follows(const char *from, const char *location)
{
    wane_origin a, b;
    char *to = wane_address_join(from, location);
    bool yes =
        to && wane_origin_of(from, &a) && wane_origin_of(to, &b) && wane_origin_follow(&a, &b);
    free(to);
    return yes;
}

static void follows_no_redirect_out_of_https(void **state)
{
    (void)state;
    static const char hub[] = "https://huggingface.co/a/b";
    assert_true(follows(hub, "/c?d"));
    assert_true(follows(hub, "c"));
    assert_true(follows(hub, "//cdn.example/x"));
    assert_true(follows(hub, "https://cdn.example/x"));
    assert_false(follows(hub, "http://huggingface.co/a"));
    assert_false(follows(hub, "http://127.0.0.1/a"));
    assert_false(follows(hub, "file:///etc/passwd"));
    assert_false(follows(hub, "ftp://cdn.example/x"));
    assert_false(follows(hub, "gopher://127.0.0.1:6379/x"));
    assert_false(follows(hub, "javascript:alert(1)"));
    assert_false(follows(hub, "https://user:word@cdn.example/x"));
    assert_true(follows("http://mirror.local/a", "/b"));
    assert_true(follows("http://mirror.local/a", "https://cdn.example/x"));
    assert_false(follows("http://mirror.local/a", "http://other.local/b"));
    assert_false(follows("http://mirror.local/a", "http://127.0.0.1/b"));
    assert_true(follows("http://127.0.0.1:1/a", "http://localhost:2/b"));
    assert_false(follows("http://127.0.0.1:1/a", "http://mirror.local/b"));
}

static void shows_no_secrets(void **state)
{
    (void)state;
    char out[300];
    assert_string_equal(wane_address_shown(out, sizeof out, "https://a.b/c?X-Sig=1#f"),
                        "https://a.b/c");
    assert_string_equal(wane_address_shown(out, sizeof out, "http://me:w@rd@a.b:1/c@d?e"),
                        "http://a.b:1/c@d");
    assert_string_equal(wane_address_shown(out, sizeof out, "https://a.b/\x1b[31m"),
                        "https://a.b/\\x1b[31m");
}

/* "hello" by git and by itself */
static const char SHA1[] = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0",
                  SHA256[] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

static wane_hub_file hello(const char *folder, const char *hash)
{
    return (wane_hub_file){.url = "http://127.0.0.1/x",
                           .name = "x",
                           .hash = hash,
                           .size = 5,
                           .path = test_path(folder, "x"),
                           .partial = test_path(folder, "x.incomplete"),
                           .lock = test_path(folder, "x.lock"),
                           .link = test_path(folder, "link"),
                           .target = "x",
                           .replace = true};
}

static void grows_until_it_is_whole(void **state)
{
    (void)state;
    static const char *const hash[] = {SHA1, SHA256};
    for (int i = 0; i < 2; i++) {
        char *folder = test_folder(), *text;
        size_t n;
        bool is;
        wane_blob b, other;
        wane_err e;
        wane_hub_file f = hello(folder, hash[i]);
        test_write(f.partial, "he", 2);
        assert_int_equal(wane_blob_new(&b, &f, &e), WANE_OK);
        assert_int_equal(wane_blob_new(&other, &f, &e), WANE_OK);
        assert_int_equal(wane_blob_lock(&b, &is, &e), WANE_OK);
        assert_true(is);
        assert_int_equal(wane_blob_lock(&other, &is, &e), WANE_OK);
        assert_false(is);
        wane_blob_free(&other);
        assert_int_equal(wane_blob_prepare(&b, &is, &e), WANE_OK);
        assert_false(is);
        assert_int_equal(b.slice, 2);
        assert_int_equal(wane_blob_slice(&b, &is, &e), WANE_OK);
        assert_int_equal(b.at, 2);
        assert_int_equal(wane_blob_append(&b, "lla", 3, &e), WANE_OK);
        assert_int_equal(wane_blob_finish(&b, &is, &e), WANE_OK);
        assert_false(is);
        assert_int_not_equal(access(f.path, F_OK), 0);
        assert_int_equal(wane_blob_restart(&b, &e), WANE_OK);
        assert_int_equal(wane_blob_append(&b, "hello", 5, &e), WANE_OK);
        assert_int_equal(wane_blob_finish(&b, &is, &e), WANE_OK);
        assert_true(is);
        wane_blob_free(&b);
        assert_int_equal(wane_file_read_all(f.link, 100, &text, &n, &e), WANE_OK);
        assert_string_equal(text, "hello");
        free(text);
        assert_int_equal(test_count(folder), 3); /* x, its lock, its link */
        test_folder_remove(folder);
    }
}

static void leaves_nothing_behind(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_hub_file f = hello(folder, SHA256);
    wane_blob b;
    wane_err e;
    bool is;
    int before = test_open_files();
    assert_int_equal(wane_blob_new(&b, &f, &e), WANE_OK);
    assert_int_equal(wane_blob_lock(&b, &is, &e), WANE_OK);
    assert_int_equal(wane_blob_prepare(&b, &is, &e), WANE_OK);
    wane_blob_free(&b);
    assert_int_equal(test_open_files(), before);
    assert_int_equal(test_count(folder), 1); /* the lock: an empty partial file goes */
    test_folder_remove(folder);
}

/* Every allocation of ours fails once on the way to a hub with a file: nothing is lost. */
static void survives_without_memory(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_hub_file f = hello(folder, SHA256);
    test_write(f.path, "hello", 5);
    wane_hub_options o = {
        .endpoint = "http://127.0.0.1:1", .token = "t", .ca_file = "c", .parallel = 1};
    int before = test_open_files();
    bool failed = true;
    for (long n = 0; failed; n++) {
        wane_hub *h = NULL;
        wane_hub_progress p = {0};
        wane_err e;
        test_malloc_fail_after(n);
        wane_status s = wane_hub_open(&o, &h, &e);
        if (!s) s = wane_hub_add(h, &f, &e);
        for (int i = 0; !s && !p.finished && i < 100; i++) s = wane_hub_step(h, 0.01, &p, &e);
        failed = test_malloc_failed();
        test_malloc_fail_after(-1);
        if (failed)
            assert_int_equal(s, WANE_EOOM);
        else
            assert_int_equal(wane_hub_file_state(h, 0), WANE_HUB_PRESENT);
        wane_hub_close(h);
        assert_int_equal(test_open_files(), before);
        assert_true(n < 200);
    }
    test_folder_remove(folder);
}

static void refuses_odd_files(void **state)
{
    (void)state;
    char *folder = test_folder();
    wane_hub *h;
    wane_err e;
    wane_hub_options o = {.endpoint = "https://huggingface.co", .parallel = 1};
    assert_int_equal(wane_hub_open(&o, &h, &e), WANE_OK);
    wane_hub_file f = hello(folder, "../../../../../../../../../../../../etc");
    assert_int_equal(wane_hub_add(h, &f, &e), WANE_ENETWORK);
    f = hello(folder, SHA256);
    f.size = UINT64_MAX;
    assert_int_equal(wane_hub_add(h, &f, &e), WANE_ENETWORK);
    wane_hub_close(h);
    wane_hub_close(NULL);
    static const char *const wrong[] = {"", "huggingface", "x://y", "https://", "https://a:b@c"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.endpoint = wrong[i];
        wane_status s = wane_hub_open(&o, &h, &e);
        if (s != WANE_ENETWORK || h) fail_msg("%s", wrong[i]);
    }
    test_folder_remove(folder);
}
#else
static void says_what_is_missing(void **state)
{
    (void)state;
    wane_hub *h;
    wane_err e;
    wane_hub_options o = {.endpoint = "https://huggingface.co"};
    assert_int_equal(wane_hub_open(&o, &h, &e), WANE_EUNSUPPORTED);
    assert_null(h);
    assert_non_null(strstr(e.message, "libcurl"));
}
#endif

int test_hub(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_it_needs),
        cmocka_unit_test(takes_no_other_ranges),
        cmocka_unit_test(knows_when_to_come_back),
        cmocka_unit_test(sends_back_only_sound_tags),
        cmocka_unit_test(has_limits),
        cmocka_unit_test(knows_names_of_blobs),
#ifdef WANE_CURL
        cmocka_unit_test(gives_the_token_to_one_origin),
        cmocka_unit_test(follows_no_redirect_out_of_https),
        cmocka_unit_test(shows_no_secrets),
        cmocka_unit_test(grows_until_it_is_whole),
        cmocka_unit_test(leaves_nothing_behind),
        cmocka_unit_test(survives_without_memory),
        cmocka_unit_test(refuses_odd_files),
#else
        cmocka_unit_test(says_what_is_missing),
#endif
    };
    return cmocka_run_group_tests_name("hub", tests, NULL, NULL);
}
