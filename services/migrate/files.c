#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/str.h"
#include "migrate.h"

enum { FILE_MAX_BYTES = 1 << 20 };

static enum status read_file(struct arena *mem, const char *path, const char **ret_text, struct why *why) {
    FILE *f = fopen(path, "re");
    struct stat info;
    if (!f || fstat(fileno(f), &info) != 0 || info.st_size > FILE_MAX_BYTES) {
        if (f)
            fclose(f);
        return fail(why, ST_INVALID, "cannot read %s, or it has more than %d bytes", path, FILE_MAX_BYTES);
    }
    size_t size = (size_t)info.st_size;
    char *text = arena_alloc(mem, size + 1);
    size_t len = fread(text, 1, size, f);
    fclose(f);
    if (len != size || memchr(text, '\0', len))
        return fail(why, ST_INVALID, "%s is not a text", path);
    *ret_text = text;
    return ST_OK;
}

/* "0003_app.up.sql" -> 3, "app", is_up. False for a name of another form. */
static bool parse_name(struct arena *mem, const char *file, int *ret_version, const char **ret_name, bool *ret_is_up) {
    enum { DIGITS = 4 };
    int64_t version;
    size_t len = strlen(file), tail;
    bool is_up = str_ends_with(file, ".up.sql");
    if (!is_up && !str_ends_with(file, ".down.sql"))
        return false;
    tail = strlen(is_up ? ".up.sql" : ".down.sql");
    if (len < DIGITS + 2 + tail || file[DIGITS] != '_' || strspn(file, "0123456789") != DIGITS ||
        !str_to_i64(arena_strndup(mem, file, DIGITS), 1, MIGRATIONS_MAX, &version))
        return false;
    *ret_version = (int)version;
    *ret_name = arena_strndup(mem, file + DIGITS + 1, len - tail - DIGITS - 1);
    *ret_is_up = is_up;
    return true;
}

static enum status add_file(struct migrate *m, const char *dir, const char *file, struct why *why) {
    int version;
    const char *name;
    bool is_up;
    if (!parse_name(m->mem, file, &version, &name, &is_up))
        return fail(why, ST_INVALID, "%s: a migration is named NNNN_name.up.sql or NNNN_name.down.sql", file);
    struct migration *row = &m->list[version - 1];
    struct script *script = is_up ? &row->up : &row->down;
    if (script->text || (row->name && !str_equal(row->name, name)))
        return fail(why, ST_INVALID, "%s: version %d exists twice", file, version);
    enum status st = read_file(m->mem, arena_printf(m->mem, "%s/%s", dir, file), &script->text, why);
    if (st != ST_OK)
        return st;
    sha256_hex(script->text, strlen(script->text), script->sha256);
    row->version = version;
    row->name = name;
    if ((size_t)version > m->count)
        m->count = (size_t)version;
    return ST_OK;
}

enum status files_read(struct migrate *m, const char *dir, struct why *why) {
    DIR *d = opendir(dir);
    if (!d)
        return fail(why, ST_INVALID, "no migrations directory at %s", dir);
    enum status st = ST_OK;
    for (struct dirent *e; st == ST_OK && (e = readdir(d));)
        if (str_ends_with(e->d_name, ".sql") && !str_equal(e->d_name, "database.sql"))
            st = add_file(m, dir, e->d_name, why);
    closedir(d);
    for (size_t i = 0; st == ST_OK && i < m->count; i++)
        if (!m->list[i].up.text || !m->list[i].down.text)
            st = fail(why, ST_INVALID, "%s: migration %04zu lacks its %s file", dir, i + 1, m->list[i].up.text ? "down" : "up");
    if (st == ST_OK && m->count == 0)
        st = fail(why, ST_INVALID, "no migrations in %s", dir);
    return st == ST_OK ? read_file(m->mem, arena_printf(m->mem, "%s/database.sql", dir), &m->database_script, why) : st;
}
