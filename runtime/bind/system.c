/* system.c - wane.core.system: the terminal, and what the machine has. */
#include <cblas.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "runtime/bind/bind.h"

static int check_stream(lua_State *L)
{
    static const char *const names[] = {"stdin", "stdout", "stderr", NULL};
    return luaL_checkoption(L, 1, "stdout", names);
}

static int l_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty(check_stream(L)));
    return 1;
}

static int l_width(lua_State *L)
{
    struct winsize size;
    int known = !ioctl(check_stream(L), TIOCGWINSZ, &size) && size.ws_col > 0;
    lua_pushinteger(L, known ? size.ws_col : 80);
    return 1;
}

/* bytes that a program could still take: "MemAvailable" of /proc/meminfo; 0 where unknown */
static lua_Integer available(void)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) break;
    if (f) fclose(f);
    return (lua_Integer)(kib * 1024);
}

static int l_machine(lua_State *L)
{
    char host[256] = "";
    struct sysinfo about;
    memset(&about, 0, sizeof about);
    sysinfo(&about);
    gethostname(host, sizeof host - 1);
    lua_createtable(L, 0, 6);
    wane_set_string(L, "host", host);
    wane_set_string(L, "blas", openblas_get_config());
    wane_set_integer(L, "pid", getpid());
    wane_set_integer(L, "processors", sysconf(_SC_NPROCESSORS_ONLN));
    wane_set_integer(L, "memory", (lua_Integer)((uint64_t)about.totalram * about.mem_unit));
    wane_set_integer(L, "memory_free", available());
    return 1;
}

static int l_disk_free(lua_State *L)
{
    struct statvfs about;
    if (statvfs(luaL_checkstring(L, 1), &about)) return 0;
    lua_pushinteger(L, (lua_Integer)((uint64_t)about.f_bavail * about.f_frsize));
    return 1;
}

static const wane_reg functions[] = {
    {"terminal", l_terminal,
     "terminal(\"stdout\") -> whether stdin, stdout or stderr is a terminal"},
    {"width", l_width, "width(\"stdout\") -> columns of that terminal; 80 where it is none"},
    {"machine", l_machine, "machine() -> { host, pid, processors, memory, memory_free, blas }"},
    {"disk_free", l_disk_free, "disk_free(path) -> bytes free on its file system, or nothing"},
    {NULL, NULL, NULL},
};

void wane_open_system(lua_State *L)
{
    wane_bind_module(L, "system", functions);
}
