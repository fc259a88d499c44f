/* generate.c - wane.core.generate: answers, scores and divergences of token ids. Text, stop strings
 * and windows are lua/wane/generate.lua's. */
#include <stdlib.h>
#include <string.h>

#include "runtime/bind/model.h"
#include "runtime/model/forward.h"

/* The list of lists of ids at arg, in scratch that stays on the stack. */
static wane_sequence *check_sequences(lua_State *L, int arg, int64_t *count, int64_t *tokens)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Integer n = luaL_len(L, arg), all = 0;
    luaL_argcheck(L, n >= 0 && n <= INT32_MAX, arg, "a list of lists of ids");
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, arg, i) != LUA_TTABLE)
            luaL_argerror(L, arg, lua_pushfstring(L, "entry %I is not a list of ids", i));
        all += (lua_Integer)lua_rawlen(L, -1);
        lua_pop(L, 1);
    }
    wane_sequence *s = wane_bind_scratch(L, (size_t)n * sizeof *s);
    int32_t *ids = wane_bind_scratch(L, (size_t)all * sizeof *ids);
    *tokens = 0;
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, arg, i + 1);
        lua_Integer length = (lua_Integer)lua_rawlen(L, -1);
        s[i] = (wane_sequence){ids + *tokens, NULL, length};
        for (lua_Integer k = 1; k <= length; k++) {
            int whole;
            lua_rawgeti(L, -1, k);
            lua_Integer id = lua_tointegerx(L, -1, &whole);
            if (!whole || id < 0 || id > INT32_MAX)
                luaL_argerror(
                    L, arg, lua_pushfstring(L, "entry %I of list %I is not a token id", k, i + 1));
            ids[(*tokens)++] = (int32_t)id;
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    *count = n;
    return s;
}

typedef struct {
    int64_t count;
    wane_generated r[];
} answers;

static void release_answers(void *p)
{
    answers *a = p;
    for (int64_t i = 0; i < a->count; i++) free(a->r[i].ids);
    free(a);
}

static const wane_type answers_type = {"wane.answers", release_answers, NULL, NULL};

/* options.stop: ids; options.stop_text: strings, which the options table keeps */
static void read_stops(lua_State *L, int arg, wane_generate_options *o)
{
    if (lua_getfield(L, arg, "stop") == LUA_TTABLE) {
        lua_Integer n = luaL_len(L, -1);
        luaL_argcheck(L, n >= 0 && n <= 1 << 16, arg, "too many stop ids");
        int32_t *stop = wane_bind_scratch(L, (size_t)n * sizeof *stop);
        for (lua_Integer i = 0; i < n; i++) {
            lua_rawgeti(L, -2, i + 1);
            stop[i] = (int32_t)luaL_checkinteger(L, -1);
            lua_pop(L, 1);
        }
        o->stop = stop;
        o->n_stop = (int)n;
    }
    if (lua_getfield(L, arg, "stop_text") == LUA_TTABLE) {
        lua_Integer n = luaL_len(L, -1);
        luaL_argcheck(L, n >= 0 && n <= 1 << 16, arg, "too many stop texts");
        const char **text = wane_bind_scratch(L, (size_t)n * sizeof *text);
        size_t *length = wane_bind_scratch(L, (size_t)n * sizeof *length);
        for (lua_Integer i = 0; i < n; i++) {
            lua_rawgeti(L, -3, i + 1);
            text[i] = luaL_checklstring(L, -1, &length[i]);
            lua_pop(L, 1);
        }
        o->stop_text = text;
        o->stop_length = length;
        o->n_stop_text = (int)n;
    }
}

static void push_answer(lua_State *L, const wane_generated *r)
{
    lua_createtable(L, 0, 5);
    lua_createtable(L, r->count < INT32_MAX ? (int)r->count : 0, 0);
    for (int64_t k = 0; k < r->count; k++) {
        lua_pushinteger(L, r->ids[k]);
        lua_rawseti(L, -2, k + 1);
    }
    lua_setfield(L, -2, "ids");
    wane_set_integer(L, "tokens", r->count);
    lua_pushnumber(L, r->seconds);
    lua_setfield(L, -2, "seconds");
    wane_set_string(L, "finish", wane_finish_name(r->finish));
}

/* answers(model, prompts, options, tokenizer) */
static int l_answers(lua_State *L)
{
    static const char *const names[] = {"max_tokens", "stop",        "stop_text", "batch",
                                        "loop",       "stop_at_box", NULL};
    wane_err e;
    int64_t count, tokens;
    lua_settop(L, 4);
    wane_check_model(L, 1);
    luaL_checktype(L, 3, LUA_TTABLE);
    wane_opt_names(L, 3, "core.generate.answers", names);
    wane_generate_options o = {
        .max_tokens = wane_opt_integer(L, 3, "max_tokens", 100),
        .stop_at_box = wane_opt_boolean(L, 3, "stop_at_box", false),
        .loop = wane_opt_integer(L, 3, "loop", 0),
    };
    int64_t batch = wane_opt_integer(L, 3, "batch", 0);
    o.batch = batch < 0 ? -1 : batch > INT32_MAX ? INT32_MAX : (int)batch;
    if (!lua_isnil(L, 4)) o.tokenizer = wane_check(L, 4, &wane_tokenizer_type);
    wane_sequence *prompts = check_sequences(L, 2, &count, &tokens);
    read_stops(L, 3, &o);
    wane_box *box = wane_newbox(L, &answers_type);
    answers *a = calloc(1, sizeof *a + (size_t)count * sizeof *a->r);
    if (!a) {
        wane_fail(&e, WANE_EOOM, "generate: no host memory for %lld answers", (long long)count);
        return wane_raise(L, &e);
    }
    a->count = count;
    box->p = a;
    WANE_TRY(L, e, wane_model_generate(wane_check_model(L, 1), prompts, count, &o, a->r, &e));
    lua_createtable(L, count < INT32_MAX ? (int)count : 0, 0);
    for (int64_t i = 0; i < count; i++) {
        push_answer(L, &a->r[i]);
        lua_rawseti(L, -2, i + 1);
    }
    box->p = NULL;
    release_answers(a);
    return 1;
}

/* The sum over one sequence's scored tokens, whether each was the likeliest, and with each the
 * single values. */
static void push_score(lua_State *L, const wane_sequence *s, const float *value,
                       const int32_t *best, bool each)
{
    double sum = 0;
    lua_Integer tokens = 0;
    bool greedy = true;
    lua_createtable(L, 0, 4);
    if (each) lua_createtable(L, 0, 0);
    for (int64_t k = 1; k < s->count; k++) {
        if (s->weight[k] == 0) continue;
        sum += value[k];
        greedy &= best[k] == s->ids[k];
        tokens++;
        if (!each) continue;
        lua_pushnumber(L, value[k]);
        lua_rawseti(L, -2, tokens);
    }
    if (each) lua_setfield(L, -2, "each");
    lua_pushnumber(L, sum);
    lua_setfield(L, -2, "logprob");
    wane_set_integer(L, "tokens", tokens);
    wane_set_boolean(L, "greedy", greedy);
}

/* score(model, sequences, from, each): from[i] is the first token of sequence i to be scored */
static int l_score(lua_State *L)
{
    wane_err e;
    int64_t count, tokens;
    lua_settop(L, 4);
    wane_check_model(L, 1);
    luaL_checktype(L, 3, LUA_TTABLE);
    bool each = lua_toboolean(L, 4);
    wane_sequence *s = check_sequences(L, 2, &count, &tokens);
    float *weight = wane_bind_scratch(L, (size_t)tokens * sizeof *weight);
    float *value = wane_bind_scratch(L, (size_t)tokens * sizeof *value);
    int32_t *best = wane_bind_scratch(L, (size_t)tokens * sizeof *best);
    int64_t *first = wane_bind_scratch(L, (size_t)count * sizeof *first);
    for (int64_t i = 0, at = 0; i < count; at += s[i++].count) {
        lua_rawgeti(L, 3, i + 1);
        lua_Integer from = luaL_checkinteger(L, -1);
        lua_pop(L, 1);
        first[i] = at;
        s[i].weight = weight + at;
        for (int64_t k = 0; k < s[i].count; k++) weight[at + k] = k + 1 >= from;
    }
    WANE_TRY(L, e, wane_model_score(wane_check_model(L, 1), s, count, first, value, best, &e));
    lua_createtable(L, count < INT32_MAX ? (int)count : 0, 0);
    for (int64_t i = 0; i < count; i++) {
        push_score(L, &s[i], value + first[i], best + first[i], each);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static int l_divergence(lua_State *L)
{
    wane_err e;
    int64_t count;
    double mean;
    wane_check_model(L, 1);
    wane_check_model(L, 2);
    int32_t *ids = wane_check_ids(L, 3, &count);
    WANE_TRY(L, e,
             wane_model_divergence(wane_check_model(L, 1), wane_check_model(L, 2), ids, count,
                                   &mean, &e));
    lua_pushnumber(L, mean);
    return 1;
}

static const wane_reg functions[] = {
    {"answers", l_answers,
     "answers(model, prompts, options, tokenizer) -> { { ids, tokens, seconds, finish } }; prompts "
     "are lists of ids; options: max_tokens, stop (ids; the model's own unless given), stop_text, "
     "stop_at_box, loop, batch; raises oom, interrupted"},
    {"score", l_score,
     "score(model, lists, from, each) -> { { logprob, tokens, greedy, each } }: of the ids from "
     "from[i] on; raises oom, interrupted"},
    {"divergence", l_divergence,
     "divergence(model, other, ids) -> mean KL(model || other) in nats; raises oom"},
    {NULL, NULL, NULL},
};

void wane_open_generate(lua_State *L)
{
    wane_bind_type(L, &answers_type);
    wane_bind_module(L, "generate", functions);
}
