/* test_tokenizer.c - merging against a plain reference, huge pieces, NFC, added tokens, threads,
 * allocations that fail. The ids of real tokenizers are tests/spec/tokenizer_spec.lua's. */
#include "tests/c/test.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "runtime/base/files.h"
#include "runtime/text/scan.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/unicode.h"
#include "tests/c/faults.h"

enum { MERGES = 120 };

static uint64_t seed;

static uint32_t random_below(uint32_t n) /* splitmix64 */
{
    uint64_t x = seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((x ^ x >> 31) % n);
}

/* A tokenizer over the bytes and MERGES random merges of a, b, c; tokens and ranks for the check.
 */
typedef struct {
    char token[256 + MERGES][64];
    int left[MERGES], right[MERGES], result[MERGES];
    int size, merges;
} toy;

static void add_character(char **at, int byte)
{
    int c = byte;
    if (byte <= 32 || (byte >= 127 && byte <= 160) || byte == 173)
        c = byte <= 32 ? 256 + byte : byte <= 160 ? 256 + byte - 94 : 256 + 67;
    unsigned char utf8[4];
    size_t n = wane_utf8_encode((uint32_t)c, utf8);
    if (c == '"' || c == '\\') *(*at)++ = '\\';
    memcpy(*at, utf8, n);
    *at += n;
}

static wane_tokenizer *make_toy(toy *t, int merges)
{
    static char json[1 << 16];
    char *at = json;
    wane_tokenizer *out;
    wane_err e;
    memset(t, 0, sizeof *t);
    t->size = 256;
    for (int i = 0; i < 256; i++) t->token[i][0] = (char)i;
    for (int tries = 0; t->merges < merges && tries < 10000; tries++) {
        int a = random_below(2) ? 'a' + (int)random_below(3) : (int)random_below((uint32_t)t->size);
        int b = random_below(2) ? 'a' + (int)random_below(3) : (int)random_below((uint32_t)t->size);
        if ((a < 256 && (a < 'a' || a > 'c')) || (b < 256 && (b < 'a' || b > 'c'))) continue;
        if (strlen(t->token[a]) + strlen(t->token[b]) > 40) continue;
        bool there = false;
        for (int i = 0; i < t->merges; i++) there |= t->left[i] == a && t->right[i] == b;
        if (there) continue;
        char joined[128];
        snprintf(joined, sizeof joined, "%s%s", t->token[a], t->token[b]);
        int id = 256;
        while (id < t->size && strcmp(t->token[id], joined)) id++;
        if (id == t->size) strcpy(t->token[t->size++], joined);
        t->left[t->merges] = a, t->right[t->merges] = b, t->result[t->merges++] = id;
    }
    /* ranks in any order: a merge may come before those that make its parts */
    for (int i = t->merges - 1; i > 0; i--) {
        int j = (int)random_below((uint32_t)i + 1), x[3] = {t->left[i], t->right[i], t->result[i]};
        t->left[i] = t->left[j], t->right[i] = t->right[j], t->result[i] = t->result[j];
        t->left[j] = x[0], t->right[j] = x[1], t->result[j] = x[2];
    }
    at += sprintf(at,
                  "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                  "\"trim_offsets\":true,\"use_regex\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
                  "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < t->size; i++) {
        *at++ = '"';
        if (i < 256)
            add_character(&at, i);
        else
            at = stpcpy(at, t->token[i]);
        at += sprintf(at, "\":%d%s", i, i + 1 < t->size ? "," : "},\"merges\":[");
    }
    for (int i = 0; i < t->merges; i++)
        at += sprintf(at, "%s\"%s %s\"", i ? "," : "", t->token[t->left[i]], t->token[t->right[i]]);
    at = stpcpy(at, "]}}");
    wane_status s = wane_tokenizer_parse(json, (size_t)(at - json), "toy.json", &out, &e);
    if (s) fail_msg("%s", e.message);
    return out;
}

/* Algorithm 1 of arXiv:1508.07909, as it stands. */
static size_t merge_plainly(const toy *t, int *ids, size_t n)
{
    for (;;) {
        int rank = t->merges;
        size_t where = 0;
        for (size_t i = 0; i + 1 < n; i++)
            for (int r = 0; r < rank; r++)
                if (t->left[r] == ids[i] && t->right[r] == ids[i + 1]) rank = r, where = i;
        if (rank == t->merges) return n;
        ids[where] = t->result[rank];
        memmove(ids + where + 1, ids + where + 2, (--n - where - 1) * sizeof *ids);
    }
}

static void merging(void **state)
{
    (void)state;
    static toy t;
    for (int round = 0; round < 24; round++) {
        seed = (uint64_t)round;
        wane_tokenizer *tokenizer = make_toy(&t, 5 + round * 5);
        for (int i = 0; i < 12; i++) {
            char text[700];
            int ids[700];
            wane_ids out = {0};
            wane_err e;
            size_t n = i < 4 ? 1 + random_below(20) : 100 + random_below(600);
            uint32_t letters = 1 + random_below(3);
            for (size_t j = 0; j < n; j++) ids[j] = text[j] = (char)('a' + random_below(letters));
            assert_int_equal(wane_tokenizer_encode(tokenizer, text, n, 0, &out, &e), WANE_OK);
            size_t count = merge_plainly(&t, ids, n);
            assert_int_equal(out.count, count);
            assert_memory_equal(out.ids, ids, count * sizeof *ids);
            wane_ids_free(&out);
        }
        wane_tokenizer_release(tokenizer);
    }
}

/* What was met before is copied: the same words many times give the same ids each time. */
static void repeating(void **state)
{
    (void)state;
    wane_ids one = {0}, all = {0};
    wane_err e;
    wane_tokenizer *llama;
    assert_int_equal(wane_tokenizer_load(test_tree("examples/models/lune-3m"), &llama, &e),
                     WANE_OK);
    static const char words[] = "The cat sat; it's 12 o'clock, naturally.\n";
    size_t length = strlen(words);
    char *text = malloc(length * 500);
    for (int i = 0; i < 500; i++) memcpy(text + (size_t)i * length, words, length);
    assert_int_equal(wane_tokenizer_encode(llama, words, length, 0, &one, &e), WANE_OK);
    assert_int_equal(wane_tokenizer_encode(llama, "x", 1, 0, &all, &e), WANE_OK);
    int32_t x = all.ids[0];
    assert_int_equal(wane_tokenizer_encode(llama, text, length * 500, 0, &all, &e), WANE_OK);
    assert_int_equal(all.count, 1 + 500 * one.count); /* appended */
    assert_int_equal(all.ids[0], x);
    for (size_t i = 0; i < 500; i++)
        assert_memory_equal(all.ids + 1 + i * one.count, one.ids, one.count * sizeof *one.ids);
    free(text);
    wane_ids_free(&one);
    wane_ids_free(&all);
    wane_tokenizer_release(llama);
}

static wane_tokenizer *load_packed(const char *path)
{
    char command[4200];
    size_t room = 16 << 20, length = 0, n;
    char *json = malloc(room);
    wane_tokenizer *t;
    wane_err e;
    snprintf(command, sizeof command, "gunzip -c '%s'", test_tree(path));
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while ((n = fread(json + length, 1, room - length, f))) length += n;
    assert_int_equal(pclose(f), 0);
    wane_status s = wane_tokenizer_parse(json, length, path, &t, &e);
    free(json);
    if (s) fail_msg("%s", e.message);
    return t;
}

/* Ids of Hugging Face's tokenizers 0.23.3 (which takes 8 to 60 seconds for each), as FNV-1a over
 * them; it gives up on spaces, whose ids are 128 of them each. */
static void huge(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        size_t times, count;
        uint64_t hash;
    } row[] = {
        {"a", 10000000, 1250000, 0x7094e5188487da65},
        {" ", 10000000, 78125, 0},
        {"\u0300", 5000000, 5000000, 0x3d9a4f734a1c1565},
        {"\u0316\u0301", 2500000, 7500000, 0x3ef5b36a0828d6c5},
        {"\U0001f642", 2500000, 2500000, 0x12439b187b6215a5},
        {"\n", 10000000, 312500, 0x85c3aaa39ed7c4c9},
        {"the ", 2500000, 2500001, 0x566c8c2a174bd068},
        {"1", 10000000, 10000000, 0xce665c7e1a212525},
    };
    wane_tokenizer *t = load_packed("tests/reference/tokenizers/qwen3/tokenizer.json.gz");
    char *text = malloc(10000000);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t unit = strlen(row[i].unit), length = unit * row[i].times;
        wane_ids ids = {0};
        wane_err e;
        for (size_t j = 0; j < length; j += unit) memcpy(text + j, row[i].unit, unit);
        clock_t start = clock();
        assert_int_equal(wane_tokenizer_encode(t, text, length, 0, &ids, &e), WANE_OK);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        assert_int_equal(ids.count, row[i].count);
        uint64_t hash = 0xcbf29ce484222325u;
        for (size_t j = 0; j < ids.count; j++)
            hash = (hash ^ (uint64_t)ids.ids[j]) * 0x100000001b3u;
        if (row[i].hash)
            assert_true(hash == row[i].hash);
        else
            assert_int_equal(ids.ids[0], ids.ids[ids.count - 1]);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_true(seconds < 6); /* under 0.6 on an idle core; quadratic would be hours */
#else
        (void)seconds;
#endif
        wane_ids_free(&ids);
    }
    free(text);
    wane_tokenizer_release(t);
}

/* The same for a file whose contents are text: without a pre-tokenizer all of it is one piece. */
static void huge_text(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        size_t times, count;
        uint64_t hash;
    } row[] = {
        {"a", 1000000, 1000000, 0x369c2c43a37251bf},
        {" ", 1000000, 250001, 0xcc96acd09fbcdfe8},
        {"the ", 500000, 500001, 0xeddfe4f89a62e4e8},
        {"\U0001f642", 300000, 1200001, 0xe4d5059f46507328},
        {"\u0301", 500000, 1000001, 0x50e8bc85fbffe28},
        {"\n", 1000000, 1000001, 0x90195e6d0a56028},
        {"\u6708\u4eae", 200000, 200001, 0x2e25f077ddd299e8},
        {"\u2581a\u2581 ", 200000, 400001, 0x884549bb38eed3e8},
    };
    wane_tokenizer *t;
    wane_err e;
    assert_int_equal(wane_tokenizer_load(test_tree("tests/reference/mistral"), &t, &e), WANE_OK);
    char *text = malloc(4000000);
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        size_t unit = strlen(row[i].unit), length = unit * row[i].times;
        wane_ids ids = {0};
        for (size_t j = 0; j < length; j += unit) memcpy(text + j, row[i].unit, unit);
        clock_t start = clock();
        assert_int_equal(wane_tokenizer_encode(t, text, length, 0, &ids, &e), WANE_OK);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        assert_int_equal(ids.count, row[i].count);
        uint64_t hash = 0xcbf29ce484222325u;
        for (size_t j = 0; j < ids.count; j++)
            hash = (hash ^ (uint64_t)ids.ids[j]) * 0x100000001b3u;
        assert_true(hash == row[i].hash);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        assert_true(seconds < 3); /* quadratic would be minutes */
#else
        (void)seconds;
#endif
        wane_ids_free(&ids);
    }
    free(text);
    wane_tokenizer_release(t);
}

static void normalizing(void **state)
{
    (void)state;
    static const struct {
        const char *text, *nfc;
    } row[] = {
        {"plain", "plain"},
        {"cafe\u0301", "caf\u00e9"},
        {"\u0301a", "\u0301a"},
        {"\u1100\u1161\u11a8\u11a8", "\uac01\u11a8"}, /* Hangul, one jamo too many */
        {"q\u0307\u0323", "q\u0323\u0307"},           /* ordered, nothing to join */
        {"d\u0307\u0323", "\u1e0d\u0307"},            /* ordered, then joined */
        {"a\u0315\u0300\u05ae\u0301b", "\u00e0\u05ae\u0301\u0315b"},
        {"\u212b\u2126", "\u00c5\u03a9"}, /* single ones that change */
        {"\u0958", "\u0915\u093c"},       /* excluded from composition */
        {"a\u0334\u0301 \u0301", "\u00e1\u0334 \u0301"},
        {"\ufb1d", "\u05d9\u05b4"},
        {"x\u08d3\u0334", "x\u08d3\u0334"}, /* newer than Unicode 9: not moved, as in the library */
        {"\u1e9b\u0323", "\u1e9b\u0323"},
        {"\U0001d15e\u0300", "\U0001d157\U0001d165\u0300"},
    };
    wane_err e;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        wane_buffer out = {0};
        const unsigned char *s = (const unsigned char *)row[i].text;
        size_t length = strlen(row[i].text);
        assert_int_equal(wane_nfc(s, length, &out, &e), WANE_OK);
        assert_int_equal(out.length, strlen(row[i].nfc));
        assert_memory_equal(out.data, row[i].nfc, out.length);
        if (strcmp(row[i].text, row[i].nfc)) assert_true(wane_nfc_needed(s, length));
        free(out.data);
    }
}

/* Every cut of text into pieces covers it, and no piece is empty. */
static void scanning(void **state)
{
    (void)state;
    static const char *const bits[] = {"'", "s",      "LL",         "\u017f", "a",  "\u0e01",
                                       "1", "\u0663", " ",          "\n",     "\r", "\u3000",
                                       ".", "\u0301", "\U0001f642", "\u180e"};
    static const char *const pattern[] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+"
        "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"};
    assert_null(scan_find("\\p{L}+"));
    for (int p = 0; p < 2; p++) {
        const scan_rules *rules = scan_find(pattern[p]);
        assert_non_null(rules);
        for (seed = 0; seed < 20000; seed++) {
            char text[128] = "";
            uint64_t keep = seed;
            for (uint32_t n = random_below(12) + 1; n; n--) strcat(text, bits[random_below(16)]);
            seed = keep;
            /* exactly as long as the text, so that a sanitizer sees a step beyond it */
            size_t length = strlen(text);
            unsigned char *s = malloc(length);
            memcpy(s, text, length);
            for (size_t at = 0, end; at < length; at = end) {
                end = scan_piece(rules, s, at, length);
                assert_true(end > at && end <= length);
                assert_true(end == length || (s[end] & 0xc0) != 0x80);
            }
            free(s);
        }
    }
}

static void limits(void **state)
{
    (void)state;
    static toy t;
    wane_err e;
    wane_ids out = {0};
    char *text;
    size_t length;
    int32_t negative[] = {97, -1};
    seed = 1;
    wane_tokenizer *tokenizer = make_toy(&t, 10);
    assert_int_equal(wane_tokenizer_encode(tokenizer, "", ((size_t)256 << 20) + 1, 0, &out, &e),
                     WANE_EARG);
    assert_int_equal(out.count, 0);
    assert_int_equal(wane_tokenizer_decode(tokenizer, negative, 2, false, &text, &length, &e),
                     WANE_EARG);
    assert_null(text);
    assert_int_equal(wane_tokenizer_find(tokenizer, "nothing"), -1);
    assert_null(wane_tokenizer_token(tokenizer, -1, &length));
    assert_null(wane_tokenizer_bytes(tokenizer, 100000, &length));
    assert_false(wane_tokenizer_is_special(tokenizer, -1));
    assert_ptr_equal(wane_tokenizer_retain(tokenizer), tokenizer);
    wane_tokenizer_release(tokenizer);
    assert_int_equal(wane_tokenizer_size(tokenizer), t.size);
    wane_tokenizer_release(tokenizer);
    wane_tokenizer_release(NULL);
    assert_int_equal(wane_tokenizer_load("/nowhere/tokenizer.json", &tokenizer, &e), WANE_EIO);
    assert_null(tokenizer);
}

static void *encode_often(void *argument)
{
    wane_tokenizer *t = wane_tokenizer_retain(argument);
    wane_err e;
    intptr_t wrong = 0;
    for (int i = 0; i < 200; i++) {
        wane_ids ids = {0};
        char *text = NULL;
        size_t length;
        static const char said[] = "<|im_start|>user\nWhat is cafe\u0301 12+30?<|im_end|>";
        wrong +=
            wane_tokenizer_encode(t, said, strlen(said), WANE_ADD_SPECIAL, &ids, &e) != WANE_OK;
        wrong += wane_tokenizer_decode(t, ids.ids, ids.count, true, &text, &length, &e) != WANE_OK;
        wrong += !text || strcmp(text, "user\nWhat is caf\u00e9 12+30?");
        free(text);
        wane_ids_free(&ids);
    }
    wane_tokenizer_release(t);
    return (void *)wrong;
}

static void threads(void **state)
{
    (void)state;
    wane_tokenizer *t;
    wane_err e;
    pthread_t thread[4];
    assert_int_equal(wane_tokenizer_load(test_tree("examples/models/lune-1m"), &t, &e), WANE_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, encode_often, t), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
    wane_tokenizer_release(t);
}

static void fail_each(const char *path)
{
    char *json;
    size_t length;
    wane_err e;
    wane_tokenizer *t = NULL;
    assert_int_equal(wane_file_read_all(test_tree(path), 1 << 20, &json, &length, &e), WANE_OK);
    /* thousands of steps, all alike but for the first and the last: a sparser walk in the middle */
    for (long n = 0;; n += n < 60 ? 1 : 1 + n / 16) {
        test_malloc_fail_after(n);
        wane_status s = wane_tokenizer_parse(json, length, "t.json", &t, &e);
        bool hit = test_malloc_failed();
        test_malloc_fail_after(-1);
        if (!hit) {
            assert_int_equal(s, WANE_OK);
            break;
        }
        if (!s) fail_msg("allocation %ld failed and nobody said so", n);
        if (s != WANE_EOOM) fail_msg("allocation %ld: %s", n, e.message);
        assert_null(t);
    }
    free(json);

    char text[5000];
    for (size_t i = 0; i < sizeof text; i++) text[i] = "cafe\xcc\x81 and <|im_end|>\xff"[i % 22];
    for (size_t i = 3000; i < 4000; i++) text[i] = (char)('a' + i % 7);
    wane_ids ids = {0};
    assert_int_equal(wane_tokenizer_encode(t, "x", 1, 0, &ids, &e), WANE_OK);
    for (long n = 0;; n++) {
        test_malloc_fail_after(n);
        wane_status s = wane_tokenizer_encode(t, text, sizeof text, WANE_ADD_SPECIAL, &ids, &e);
        bool hit = test_malloc_failed();
        test_malloc_fail_after(-1);
        if (!hit) {
            assert_int_equal(s, WANE_OK);
            break;
        }
        if (!s)
            ids.count = 1; /* the words met before are kept only where there is memory */
        else
            assert_int_equal(s, WANE_EOOM);
        assert_int_equal(ids.count, 1);
    }
    for (long n = 0;; n++) {
        char *back;
        test_malloc_fail_after(n);
        wane_status s = wane_tokenizer_decode(t, ids.ids, ids.count, false, &back, &length, &e);
        bool hit = test_malloc_failed();
        test_malloc_fail_after(-1);
        if (!hit) {
            assert_int_equal(s, WANE_OK);
            free(back);
            break;
        }
        assert_int_equal(s, WANE_EOOM);
        assert_null(back);
    }
    wane_ids_free(&ids);
    wane_tokenizer_release(t);
}

/* Each allocation of parse, encode and decode fails once; nothing is left behind or half done. */
static void no_memory(void **state)
{
    (void)state;
    fail_each("examples/models/lune-1m/tokenizer.json");
    fail_each("tests/reference/mistral/tokenizer.json");
}

int test_tokenizer(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging),   cmocka_unit_test(repeating),   cmocka_unit_test(huge),
        cmocka_unit_test(huge_text), cmocka_unit_test(normalizing), cmocka_unit_test(scanning),
        cmocka_unit_test(limits),    cmocka_unit_test(threads),     cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
