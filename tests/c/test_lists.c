/* test_lists.c - the long parts of a tokenizer.json cut out of the text are what a tree of all of
 * it has, or are not cut. Every byte of a text is bent in every way. */
#include "tests/c/test.h"

#include <string.h>

#include "runtime/text/lists.h"
#include "tests/c/faults.h"

static bool has_empty_parts(json_t *root)
{
    json_t *model = json_object_get(root, "model");
    json_t *entries = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    return json_is_object(entries) && !json_object_size(entries) && json_is_array(merges) &&
           !json_array_size(merges);
}

static bool has_twins(const vocab_lists *l)
{
    for (size_t i = 0; i < l->n_entries; i++)
        for (size_t j = 0; j < i; j++)
            if (l->entries[i].length == l->entries[j].length &&
                !memcmp(l->entries[i].content, l->entries[j].content, l->entries[i].length))
                return true;
    return false;
}

static bool same(const char *a, size_t a_length, const char *b, size_t b_length)
{
    return a_length == b_length && !memcmp(a, b, a_length);
}

static void assert_same_lists(const vocab_lists *a, const vocab_lists *b)
{
    assert_int_equal(a->n_entries, b->n_entries);
    assert_int_equal(a->n_merges, b->n_merges);
    assert_false(b->odd_merge);
    for (size_t i = 0; i < a->n_entries; i++) {
        const vocab_entry *x = &a->entries[i], *y = &b->entries[i];
        assert_true(x->id == y->id && same(x->content, x->length, y->content, y->length));
    }
    for (size_t i = 0; i < a->n_merges; i++)
        for (int k = 0; k < 2; k++)
            assert_true(same(a->merges[i].half[k], a->merges[i].length[k], b->merges[i].half[k],
                             b->merges[i].length[k]));
}

/* Whether the parts were cut, and to good purpose; then the whole is held against its tree. */
static bool taken(const char *text, size_t length)
{
    vocab_lists lists, whole;
    json_t *rest = NULL, *root;
    bool cut, good;
    wane_err e;
    char *copy = malloc(length ? length : 1); /* just as long, so that a byte too many is seen */
    assert_non_null(copy);
    memcpy(copy, text, length);
    assert_int_equal(lists_cut(copy, length, &lists, &cut, &e), WANE_OK);
    good = cut && !wane_json_parse(lists.rest, lists.rest_length, "x", &rest, &e) &&
           has_empty_parts(rest) && !has_twins(&lists);
    json_decref(rest);
    if (good) {
        if (wane_json_parse(copy, length, "x", &root, &e))
            fail_msg("%s in %.*s", e.message, (int)length, copy);
        json_t *model = json_object_get(root, "model");
        assert_int_equal(lists_from_tree(json_object_get(model, "vocab"),
                                         json_object_get(model, "merges"), &whole, &e),
                         WANE_OK);
        assert_same_lists(&lists, &whole);
        lists_free(&whole);
        json_decref(root);
    }
    lists_free(&lists);
    free(copy);
    return good;
}

static bool text_taken(const char *text)
{
    return taken(text, strlen(text));
}

static void plain_texts(void **state)
{
    (void)state;
    assert_true(text_taken("{\"model\":{\"vocab\":{},\"merges\":[]}}"));
    assert_true(text_taken(" {\"a\": [1, {\"model\": \"}\\\"{\"}], \"model\" : { \"merges\" : [ "
                           "\"a b\" , [\"a\", \"c\"]\n ], "
                           "\"x\": null, \"vocab\":\t{ \"a\" : 0 ,\"b\":12, \"c\":4194303 } , "
                           "\"y\": {} } , \"z\": 1 }\n"));
    /* escapes, and characters of two, three and four bytes */
    assert_true(text_taken(
        "{\"model\":{\"vocab\":{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\":1,\"\\u0120x\":2,\"\xc4\xa0\":3,"
        "\"\xe4\xb8\x96\xf0\x9f\x8c\x99\\u4e16\":4},\"merges\":[\"\\u0120 \\\\\",[\"\\n\",\"a "
        "b\"]]}}"));
}

static void left_to_the_tree(void **state)
{
    static const char *const vocab[] = {
        "{\"a\":1.0}",
        "{\"a\":-1}",
        "{\"a\":01}",
        "{\"a\":4194304}",
        "{\"a\":99999999999999999999}",
        "{\"a\":\"1\"}",
        "{\"a\":1e1}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1 \"b\":2}",
        "{a:1}",
        "{\"\\ud83c\\udf19\":1}",
        "{\"\\ud83c\":1}",
        "{\"\\u0000\":1}",
        "{\"\\x\":1}",
        "{\"\x01\":1}",
        "{\"\xff\":1}",
        "{\"\xc0\x80\":1}",
        "{\"\xed\xa0\x80\":1}",
        "{\"a\\\":1}",
        "[]",
        "null",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"\\u00\":1}",
        "{\"a",
    };
    static const char *const merges[] = {
        "[\"a\"]",
        "[\"a b c\"]",
        "[\"\"]",
        "[[\"a\"]]",
        "[[\"a\",\"b\",\"c\"]]",
        "[[\"a\" \"b\"]]",
        "[[\"a\",1]]",
        "[1]",
        "[\"a b\",]",
        "[\"a b\" \"a b\"]",
        "{}",
        "null",
        "[\"a\\u0020b\\ud800\"]",
        "[",
    };
    char text[256];
    (void)state;
    for (size_t i = 0; i < sizeof vocab / sizeof *vocab; i++) {
        snprintf(text, sizeof text, "{\"model\":{\"vocab\":%s,\"merges\":[]}}", vocab[i]);
        if (text_taken(text)) fail_msg("%s", text);
    }
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++) {
        snprintf(text, sizeof text, "{\"model\":{\"vocab\":{},\"merges\":%s}}", merges[i]);
        if (text_taken(text)) fail_msg("%s", text);
    }
    assert_false(text_taken(""));
    assert_false(text_taken("[]"));
    assert_false(text_taken("{\"model\":{\"vocab\":{}}}"));
    assert_false(text_taken("{\"model\":{\"merges\":[]}}"));
    assert_false(text_taken("{\"model\":[{\"vocab\":{},\"merges\":[]}]}"));
    assert_false(text_taken("{\"modem\":{\"vocab\":{},\"merges\":[]}}"));
    assert_false(text_taken("{\"model\":{\"vocab\":{},\"merges\":[]}"));
    assert_false(text_taken("{\"model\":{\"vocab\":{},\"merges\":[]}}}"));
    assert_false(text_taken("{\"model\":{\"vocab\":{},\"merges\":[],\"vocab\":{}}}"));
    assert_false(text_taken("{\"model\":{\"vocab\":{},\"merges\":[],\"voc\\u0061b\":{}}}"));
    assert_false(text_taken("{\"model\":{\"vocab\":{},\"merges\":[]},\"model\":{}}"));
    assert_false(text_taken("{\"mod\\u0065l\":{\"vocab\":{},\"merges\":[]}}"));
    assert_false(text_taken("{\"model\":{},\"model\":{\"vocab\":{},\"merges\":[]}}"));
    assert_false(text_taken("\"{\\\"model\\\":{}}\""));
}

static const char toy[] = "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 2, \"content\": "
                          "\"<\\\"}>\"}],\n \"model\": "
                          "{\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"\xc4\xa0\\u0041\": 10}, "
                          "\"merges\": [\"a \xc4\xa0\", "
                          "[\"a\", \"\\n\"]], \"x\": false}, \"decoder\": null}";

static void bent_anywhere(void **state)
{
    char text[sizeof toy];
    int good = 0;
    (void)state;
    memcpy(text, toy, sizeof toy);
    assert_true(taken(text, sizeof toy - 1));
    for (size_t i = 0; i < sizeof toy - 1; i++) {
        for (int byte = 0; byte < 256; byte++) {
            text[i] = (char)byte;
            good += taken(text, sizeof toy - 1);
        }
        text[i] = toy[i];
    }
    assert_true(good > 5000); /* letters within strings, and digits */
    for (size_t n = 0; n < sizeof toy - 1; n++) assert_false(taken(toy, n));
}

/* A piece taken out, or put in twice. */
static void spliced_anywhere(void **state)
{
    char text[2 * sizeof toy];
    (void)state;
    for (size_t i = 0; i < sizeof toy - 1; i++)
        for (size_t n = 1; n < 12 && i + n < sizeof toy; n++) {
            memcpy(text, toy, i);
            memcpy(text + i, toy + i + n, sizeof toy - 1 - i - n);
            taken(text, sizeof toy - 1 - n);
            memcpy(text, toy, i + n);
            memcpy(text + i + n, toy + i, sizeof toy - 1 - i);
            taken(text, sizeof toy - 1 + n);
        }
}

static void without_memory(void **state)
{
    (void)state;
    for (long n = 0;; n++) {
        vocab_lists lists;
        bool cut;
        wane_err e;
        test_malloc_fail_after(n);
        wane_status s = lists_cut(toy, sizeof toy - 1, &lists, &cut, &e);
        bool failed = test_malloc_failed();
        test_malloc_fail_after(-1);
        assert_int_equal(s, failed ? WANE_EOOM : WANE_OK);
        assert_int_equal(cut, !failed);
        lists_free(&lists);
        if (!failed) break;
    }
}

int test_lists(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_texts),    cmocka_unit_test(left_to_the_tree),
        cmocka_unit_test(bent_anywhere),  cmocka_unit_test(spliced_anywhere),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests_name("lists", tests, NULL, NULL);
}
