/* edit.c - the line editor of the prompt, over libedit: what lua/wane/repl.lua requires as
 * "wane.edit".
 *
 * Characters are read here and not by libedit: it would begin the read again when a signal comes,
 * and a Ctrl-C must clear the line at once. Signals arrive through a pipe, since the system may run
 * a handler in any thread of the process.
 *
 * The history file has one entry a line, oldest first, with \n and \\ for the two characters; every
 * entry is one write at its end, so that several prompts at a time lose nothing. */
#include "runtime/edit.h"

#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/base/units.h"
#include "runtime/bind/bind.h"

enum { HISTORY_MOST = 10000, HISTORY_SLACK = 2000 };

static int wake[2] = {-1, -1}; /* a pipe: the number of each signal that came */

void edit_wake(int number)
{
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    if (wake[1] >= 0 && write(wake[1], &byte, 1) < 0) {
        /* the pipe is full of signals nobody read: one more tells nothing new */
    }
    errno = saved;
}

typedef struct {
    EditLine *el;     /* owned */
    History *history; /* owned */
    FILE *out;        /* stdout where that is the terminal, else stderr */
    lua_State *L;     /* the state that called read, while it reads */
    char *path;       /* owned: the history file; NULL: none */
    char prompt[64];
    bool interrupted; /* Ctrl-C: the line ends */
    bool ended;       /* SIGTERM and its kin: the program ends */
} editor;

static const char editor_key; /* registry; only its address matters */
static const char *const EDITOR = "wane.edit.editor";

static int editor_gc(lua_State *L)
{
    editor *d = luaL_checkudata(L, 1, EDITOR);
    if (d->el) el_end(d->el);
    if (d->history) history_end(d->history);
    free(d->path);
    memset(d, 0, sizeof *d);
    return 0;
}

static char *prompt(EditLine *el)
{
    editor *d = NULL;
    el_get(el, EL_CLIENTDATA, (void **)&d);
    return d->prompt;
}

/* Takes the signals that came; true where reading must end. */
static bool woken(editor *d)
{
    unsigned char number;
    while (read(wake[0], &number, 1) == 1) {
        if (number == SIGWINCH) {
            el_resize(d->el);
        } else if (number == SIGCONT) {
            el_set(d->el, EL_PREP_TERM, 1);
            el_set(d->el, EL_REFRESH);
        } else {
            d->interrupted |= number == SIGINT;
            d->ended |= number != SIGINT;
        }
    }
    return d->interrupted || d->ended;
}

/* The next byte: 1; 0 at the end; -1 where a signal ends the line. */
static int next_byte(editor *d, unsigned char *out)
{
    for (;;) {
        struct pollfd from[] = {{.fd = 0, .events = POLLIN}, {.fd = wake[0], .events = POLLIN}};
        if (poll(from, 2, -1) < 0 && errno != EINTR) return -1;
        if (woken(d)) return -1;
        if (!from[0].revents) continue;
        ssize_t n = read(0, out, 1);
        if (n == 1 && *out == 0) *out = 4; /* a Ctrl-D typed before the prompt was there */
        if (n >= 0) return (int)n;
        if (errno != EINTR && errno != EAGAIN) return -1;
    }
}

static int next_character(EditLine *el, wchar_t *out)
{
    unsigned char bytes[4];
    editor *d = NULL;
    el_get(el, EL_CLIENTDATA, (void **)&d);
    for (size_t n = 0; n < sizeof bytes;) {
        size_t used;
        int got = next_byte(d, bytes + n);
        if (got != 1) return got;
        uint32_t c = wane_utf8_decode(bytes, ++n, &used);
        *out = (wchar_t)c;
        /* an unfinished character reads as U+FFFD over all its bytes so far: the next byte may
         * finish it */
        if (c != 0xfffd || used < n || bytes[0] < 0xc2) return 1;
    }
    return 1;
}

/* Shows the names under the line in columns. */
static void show(editor *d, lua_State *L, int list)
{
    int width = 0, column = 0, columns;
    lua_Integer n = luaL_len(L, list);
    for (lua_Integer i = 1; i <= n; i++, lua_pop(L, 1)) {
        lua_rawgeti(L, list, i);
        int length = (int)strlen(luaL_tolstring(L, -1, NULL));
        if (length > width) width = length;
        lua_pop(L, 1);
    }
    columns = 78 / (width + 2) > 0 ? 78 / (width + 2) : 1;
    fputc('\n', d->out);
    for (lua_Integer i = 1; i <= n; i++, lua_pop(L, 1)) {
        lua_rawgeti(L, list, i);
        bool last = ++column == columns || i == n;
        fprintf(d->out, "%-*s%s", last ? 0 : width + 2, lua_tostring(L, -1), last ? "\n" : "");
        if (last) column = 0;
    }
}

/* completer, text, editor -> what became of it */
static int complete_protected(lua_State *L)
{
    editor *d = lua_touserdata(L, 3);
    lua_settop(L, 2);
    lua_call(L, 1, 2); /* text to insert, names to show */
    const char *insert = luaL_optstring(L, 1, "");
    int result = *insert ? CC_REFRESH : CC_REFRESH_BEEP;
    if (*insert && el_insertstr(d->el, insert) < 0) result = CC_ERROR;
    if (lua_istable(L, 2)) {
        show(d, L, 2);
        result = CC_REDISPLAY;
    }
    lua_pushinteger(L, result);
    return 1;
}

static unsigned char complete(EditLine *el, int key)
{
    editor *d = NULL;
    (void)key;
    el_get(el, EL_CLIENTDATA, (void **)&d);
    lua_State *L = d->L;
    const LineInfo *line = el_line(el);
    int top = lua_gettop(L), result = CC_ERROR;
    lua_pushcfunction(L, complete_protected);
    lua_pushvalue(L, 2); /* read's second argument */
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    lua_pushlightuserdata(L, d);
    if (!lua_pcall(L, 3, 1, 0)) result = (int)lua_tointeger(L, -1);
    lua_settop(L, top);
    return (unsigned char)result;
}

static void bind_keys(EditLine *el)
{
    static const char *const keys[][2] = {
        {"^I", "wane-complete"},       {"^R", "em-inc-search-prev"},
        {"^W", "ed-delete-prev-word"}, {"\\e[1;5C", "em-next-word"},
        {"\\e[1;5D", "ed-prev-word"},  {"\\e[3~", "ed-delete-next-char"}};
    el_set(el, EL_EDITOR, "emacs");
    el_set(el, EL_ADDFN, "wane-complete", "complete the name", complete);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        el_set(el, EL_BIND, keys[i][0], keys[i][1], NULL);
}

static editor *open_editor(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &editor_key) == LUA_TUSERDATA) {
        editor *d = lua_touserdata(L, -1);
        lua_pop(L, 1);
        return d;
    }
    editor *d = lua_newuserdatauv(L, sizeof *d, 0);
    memset(d, 0, sizeof *d);
    if (luaL_newmetatable(L, EDITOR)) {
        lua_pushcfunction(L, editor_gc);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    if (!setlocale(LC_CTYPE, "") || strcmp(nl_langinfo(CODESET), "UTF-8"))
        setlocale(LC_CTYPE, "C.UTF-8");
    d->out = isatty(1) ? stdout : stderr;
    d->el = el_init("wane", stdin, d->out, stderr);
    d->history = history_init();
    if (!d->el || !d->history || (wake[0] < 0 && pipe2(wake, O_CLOEXEC | O_NONBLOCK)))
        luaL_error(L, "the line editor cannot be opened: %s", strerror(errno));
    HistEvent event;
    history(d->history, &event, H_SETSIZE, HISTORY_MOST);
    history(d->history, &event, H_SETUNIQUE, 1);
    el_set(d->el, EL_CLIENTDATA, d);
    el_set(d->el, EL_PROMPT, prompt);
    el_set(d->el, EL_GETCFN, next_character);
    el_set(d->el, EL_HIST, history, d->history);
    bind_keys(d->el);
    el_source(d->el, NULL); /* the user's ~/.editrc */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &editor_key);
    return d;
}

/* read(prompt, completer) */
static int l_read(lua_State *L)
{
    int n = 0;
    const char *text = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    editor *d = open_editor(L);
    snprintf(d->prompt, sizeof d->prompt, "%s", text);
    fflush(NULL);
    main_arm();
    d->L = L;
    woken(d);
    d->interrupted = false;                        /* that one stopped what ran before */
    if (!d->ended) el_set(d->el, EL_PREP_TERM, 1); /* before the prompt: who sees it may type */
    const char *line = d->ended ? NULL : el_gets(d->el, &n);
    d->L = NULL;
    if (d->ended) { /* the program is to end: it is told again, since what ran before may have used
                       it up */
        fputc('\n', d->out);
        atomic_store(&wane_bind_context(L)->stop, 1);
        wane_bind_stop_check(L);
    }
    if (d->interrupted) {
        fputs("^C\n", d->out);
        wane_bind_stop_clear(L);
        main_arm();
        return lua_pushboolean(L, 0), 1;
    }
    if (!line || n <= 0) {
        fputc('\n', d->out);
        return 0;
    }
    if (line[n - 1] == '\n') n--;
    lua_pushlstring(L, line, (size_t)n);
    return 1;
}

/* An entry as a line of the file, or back; out has room for 2 * strlen(in) + 2. */
static size_t escape(char *out, const char *in)
{
    char *p = out;
    for (; *in; in++) {
        if (*in == '\\' || *in == '\n') *p++ = '\\';
        *p++ = *in == '\n' ? 'n' : *in;
    }
    *p++ = '\n';
    return (size_t)(p - out);
}

static void unescape(char *text)
{
    char *out = text;
    for (char *in = text; *in && *in != '\n'; in++) {
        if (*in == '\\' && in[1])
            *out++ = *++in == 'n' ? '\n' : *in;
        else
            *out++ = *in;
    }
    *out = 0;
}

/* Keeps the newest entries of a file that has grown long. Without luck it stays as it is. */
static void trim(const char *path, History *h)
{
    HistEvent event;
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.partial-%ld", path, (long)getpid()) >=
        (int)sizeof temporary)
        return;
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) return;
    for (int i = history(h, &event, H_LAST); i >= 0; i = history(h, &event, H_PREV)) {
        char *line = malloc(2 * strlen(event.str) + 2);
        if (line) fwrite(line, 1, escape(line, event.str), f);
        free(line);
    }
    bool whole = !ferror(f);
    if (fclose(f) || !whole || rename(temporary, path)) unlink(temporary);
}

/* history(path): entries of earlier prompts, and where those of this one go */
static int l_history(lua_State *L)
{
    HistEvent event;
    const char *path = luaL_checkstring(L, 1);
    editor *d = open_editor(L);
    char *line = NULL;
    size_t room = 0;
    int count = 0;
    free(d->path);
    d->path = strdup(path);
    FILE *f = fopen(path, "re");
    for (; f && getline(&line, &room, f) > 0; count++) {
        unescape(line);
        if (*line) history(d->history, &event, H_ENTER, line);
    }
    free(line);
    if (f) fclose(f);
    if (count > HISTORY_MOST + HISTORY_SLACK) trim(path, d->history);
    return 0;
}

/* add(text): one more entry, kept in the file as well */
static int l_add(lua_State *L)
{
    HistEvent event;
    const char *text = luaL_checkstring(L, 1);
    char *line = wane_bind_scratch(L, 2 * strlen(text) + 2);
    editor *d = open_editor(L);
    if (!history(d->history, &event, H_FIRST) && !strcmp(event.str, text)) return 0;
    history(d->history, &event, H_ENTER, text);
    int fd = d->path ? open(d->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0) return 0;
    if (write(fd, line, escape(line, text)) < 0) {
        /* a history that cannot be kept is no reason to stop */
    }
    close(fd);
    return 0;
}

/* call(f, ...) -> true and its values, or false and the error; here a Ctrl-C ends */
static int l_call(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushcfunction(L, wane_bind_traceback);
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 1);
    wane_bind_stop_clear(L);
    luaL_checkstack(L, 1, "too many results");
    lua_pushboolean(L, !status);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static const wane_reg functions[] = {
    {"read", l_read, "read(prompt, completer) -> a line; false after Ctrl-C; nothing at the end"},
    {"history", l_history,
     "history(path): entries of earlier prompts, and where new ones are kept"},
    {"add", l_add, "add(text): one more entry of the history"},
    {"call", l_call,
     "call(f, ...) -> true and its values, or false and the error; where Ctrl-C ends"},
    {NULL, NULL, NULL},
};

static int open_module(lua_State *L)
{
    wane_bind_module(L, "edit", functions);
    return 1;
}

static int open_protected(lua_State *L)
{
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, open_module);
    lua_setfield(L, -2, "wane.edit");
    return 0;
}

bool edit_open(wane *w)
{
    lua_State *L = wane_lua(w);
    lua_pushcfunction(L, open_protected);
    return lua_pcall(L, 0, 0, 0) == LUA_OK;
}
