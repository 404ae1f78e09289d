#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config.h"

struct sample { const char *url, *note; int64_t port; bool is_fast; struct secret *key; };

#define OFF(member) offsetof(struct sample, member)

static const struct setting TABLE[] = {
    { "T_URL", SET_TEXT, NULL, 3, 20, "", OFF(url), "Where it is." },
    { "T_NOTE", SET_TEXT, "", 2, 5, "", OFF(note), "A note." },
    { "T_PORT", SET_INT, "8080", 1, 65535, "", OFF(port), "Port." },
    { "T_FAST", SET_BOOL, "false", 0, 0, "", OFF(is_fast), "Fast." },
    { "T_KEY", SET_SECRET, "", 4, 8, "", OFF(key), "Key." },
    { 0 },
};

static void start(void) {
    cr_assert_eq(setenv("T_URL", "tcp://x", 1), 0);
}

TestSuite(config, .init = start, .timeout = 10);

static enum status load(struct sample *s, struct why *why) {
    return config_load(TABLE, s, NULL, why);
}

Test(config, fallbacks_fill_what_is_absent_or_empty) {
    setenv("T_PORT", "", 1);
    struct sample s = { 0 };
    struct why why = { 0 };
    cr_assert_eq(load(&s, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(s.url, "tcp://x");
    cr_expect_str_eq(s.note, "");
    cr_expect_eq(s.port, 8080);
    cr_expect_not(s.is_fast);
    cr_expect_null(s.key);
    config_release(TABLE, &s);
    config_release(TABLE, &s);
    cr_expect_null(s.url);
}

Test(config, values_are_read_by_their_type) {
    setenv("T_NOTE", "abc", 1);
    setenv("T_PORT", "18100", 1);
    setenv("T_FAST", "true", 1);
    setenv("T_KEY", "s3cret", 1);
    struct sample s = { 0 };
    struct why why = { 0 };
    cr_assert_eq(load(&s, &why), ST_OK, "%s", why.text);
    cr_expect_str_eq(s.note, "abc");
    cr_expect_eq(s.port, 18100);
    cr_expect(s.is_fast);
    cr_expect(secret_equal(s.key, "s3cret", 6));
    config_release(TABLE, &s);
}

static void refuses(const char *name, const char *value, const char *mention) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
    struct sample s = { 0 };
    struct why why = { 0 };
    cr_expect_eq(load(&s, &why), ST_INVALID, "%s=%s was taken", name, value ? value : "nothing");
    cr_expect(strstr(why.text, mention), "'%s' does not name %s", why.text, mention);
    cr_expect(!value || strlen(value) < 4 || !strstr(why.text, value), "the value is in '%s'", why.text);
    config_release(TABLE, &s);
}

Test(config, a_missing_required_setting_is_named) { refuses("T_URL", NULL, "T_URL"); }
Test(config, a_short_text_is_refused) { refuses("T_URL", "x", "T_URL"); }
Test(config, a_number_out_of_range_is_refused) { refuses("T_PORT", "65536", "T_PORT"); }
Test(config, a_number_with_garbage_is_refused) { refuses("T_PORT", "80x", "T_PORT"); }
Test(config, a_bool_with_garbage_is_refused) { refuses("T_FAST", "maybe", "T_FAST"); }
Test(config, a_long_secret_is_refused_and_not_shown) { refuses("T_KEY", "123456789", "T_KEY"); }

struct named { struct secret *key, *client_secret, *way_in; struct live_secret *password; };

static const struct setting NAMED[] = {
    { "N_KEY", SET_SECRET, NULL, 4, 8, "", offsetof(struct named, key), "Key." },
    { "N_CLIENT_SECRET", SET_SECRET, "", 0, 0, "", offsetof(struct named, client_secret), "Secret of a client." },
    { "N_PASSWORD", SET_LIVE_SECRET, "", 0, 0, "", offsetof(struct named, password), "Password." },
    { "N_WAY_IN", SET_CREDENTIAL, "", 0, 0, "", offsetof(struct named, way_in), "What they are asked for with." },
    { 0 },
};

Test(config, secrets_may_be_named_and_get_their_values_later) {
    setenv("N_KEY_SECRET_ARN", "arn:1", 1);
    setenv("N_CLIENT_SECRET_ARN", "arn:2", 1);
    setenv("N_PASSWORD_SECRET_ARN", "arn:3", 1);
    setenv("N_WAY_IN_SECRET_ARN", "arn:4", 1);
    struct named n = { 0 };
    struct why why = { 0 };
    struct config_references references = { 0 };
    cr_assert_eq(config_load(NAMED, &n, &references, &why), ST_OK, "%s", why.text);
    cr_assert_eq(references.count, 3, "credentials are never named");
    cr_expect_str_eq(references.list[1].text, "arn:2");
    cr_expect(!n.key && !n.client_secret && !n.password && !n.way_in);
    bool is_changed = false;
    static const struct { const char *bytes; size_t len; } REFUSED[] = { { "", 0 }, { "se\0cret", 7 }, { "abc", 3 }, { "too-long-a-key", 14 } };
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        cr_expect_eq(config_resolve(&references.list[0], REFUSED[i].bytes, REFUSED[i].len, &is_changed, &why), ST_INVALID, "%zu", i);
        cr_expect(strstr(why.text, "N_KEY_SECRET_ARN") && !strstr(why.text, "too-long"), "%s", why.text);
    }
    cr_expect(!n.key && !is_changed);
    cr_assert_eq(config_resolve(&references.list[0], "s3cret", 6, &is_changed, &why), ST_OK);
    cr_expect(is_changed && secret_equal(n.key, "s3cret", 6));
    cr_assert_eq(config_resolve(&references.list[2], "one", 3, &is_changed, &why), ST_OK);
    struct live_secret *password = n.password;
    cr_assert_eq(config_resolve(&references.list[2], "one", 3, &is_changed, &why), ST_OK);
    cr_expect_not(is_changed);
    cr_assert_eq(config_resolve(&references.list[2], "two", 3, &is_changed, &why), ST_OK);
    cr_expect(is_changed && n.password == password, "whoever holds it has the other value");
    config_references_end(&references);
    config_release(NAMED, &n);
    cr_expect(!n.key && !n.password);
}

Test(config, a_secret_is_given_or_named_and_not_both_and_named_only_where_somebody_is_asked) {
    struct named n = { 0 };
    struct why why = { 0 };
    struct config_references references = { 0 };
    setenv("N_KEY_SECRET_ARN", "arn:1", 1);
    cr_expect_eq(config_load(NAMED, &n, NULL, &why), ST_INVALID);
    cr_expect(strstr(why.text, "N_KEY_SECRET_ARN") && strstr(why.text, "asks no Secrets Manager"), "%s", why.text);
    setenv("N_KEY", "s3cret", 1);
    cr_expect_eq(config_load(NAMED, &n, &references, &why), ST_INVALID);
    cr_expect(strstr(why.text, "N_KEY and N_KEY_SECRET_ARN are both set") && !strstr(why.text, "s3cret"), "%s", why.text);
    config_references_end(&references);
    config_release(NAMED, &n);
}

Test(config, names_of_secrets_are_told_where_they_can_be_used) {
    static const struct setting MANAGER[] = { { "AWS_ENDPOINT_URL_SECRETS_MANAGER", SET_TEXT, "", 0, 0, "", 0, "Where it is." }, { 0 } };
    const struct setting *const asks[] = { NAMED, MANAGER, NULL }, *const does_not[] = { NAMED, TABLE, NULL };
    for (int i = 0; i < 2; i++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        config_print_markdown(out, "sample", "a sample", i ? does_not : asks);
        fclose(out);
        cr_expect_eq(strstr(text, "`N_CLIENT_SECRET_ARN`, read at start") != NULL, i == 0);
        cr_expect_eq(strstr(text, "`N_PASSWORD_SECRET_ARN`, read again while running") != NULL, i == 0);
        cr_expect_null(strstr(text, "N_WAY_IN_SECRET_ARN"));
        free(text);
    }
}

Test(config, the_environment_is_wiped_but_for_what_programs_need) {
    setenv("T_KEY", "s3cret", 1);
    setenv("PATH", "/usr/bin", 1);
    char *held = getenv("T_KEY");
    config_wipe_environment();
    cr_expect_null(getenv("T_KEY"));
    cr_expect_null(getenv("T_URL"));
    cr_expect_str_eq(getenv("PATH"), "/usr/bin");
    cr_expect_eq(held[0], '\0', "the bytes of the value are still there");
    for (char **variable = environ; *variable; variable++)
        cr_expect(strncmp(*variable, "PATH=", 5) == 0 || strncmp(*variable, "LANG=", 5) == 0 || strncmp(*variable, "TZ=", 3) == 0);
}

Test(config, help_and_markdown_name_every_row) {
    const struct setting *const tables[] = { TABLE, NULL };
    for (int is_markdown = 0; is_markdown < 2; is_markdown++) {
        char *text = NULL;
        size_t len = 0;
        FILE *out = open_memstream(&text, &len);
        (is_markdown ? config_print_markdown : config_print_help)(out, "sample", "a sample", tables);
        fclose(out);
        for (const struct setting *row = TABLE; row->name; row++) {
            cr_expect(strstr(text, row->name), "%s is missing in: %s", row->name, text);
            cr_expect(strstr(text, row->help));
        }
        cr_expect(strstr(text, "required"));
        cr_expect(strstr(text, "1 to 65535"));
        free(text);
    }
}

struct places { char *one, *many; int64_t number; struct secret *url; };

static void note_folder(void *ctx, const char *path) {
    strcat(ctx, path);
    strcat(ctx, ";");
}

Test(config, folders_that_settings_name_are_found) {
    static const struct setting PLACES[] = {
        { "ONE", SET_TEXT, "", 0, 0, "", offsetof(struct places, one), "A file." },
        { "MANY", SET_TEXT, "", 0, 0, "", offsetof(struct places, many), "Endpoints." },
        { "NUMBER", SET_INT, "0", 0, 9, "", offsetof(struct places, number), "A number." },
        { "URL", SET_SECRET, "", 0, 0, "", offsetof(struct places, url), "A database." },
        { 0 },
    };
    struct places p = { (char *)"/run/keys/token", (char *)"file:///srv/endpoints/query", 7, NULL };
    static const char URL[] = "postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/etc/rds/ca.pem&x=/no/not";
    p.url = secret_new(URL, sizeof URL - 1);
    char found[256] = "";
    config_each_folder(PLACES, &p, note_folder, found);
    cr_expect_str_eq(found, "/run/keys;/srv/endpoints;/etc/rds;");
    p.one = (char *)"relative/file";
    p.many = (char *)"/top";
    secret_destroy(&p.url);
    *found = '\0';
    config_each_folder(PLACES, &p, note_folder, found);
    cr_expect_str_eq(found, "/top;", "never the whole file system");
}
