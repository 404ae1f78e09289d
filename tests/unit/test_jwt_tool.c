/* The program that reads a token and a key set from files judges as auth does. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>


/* RFC 7515 A.3 */
static const char KEY[] = "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}";
static const char TOKEN[] = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
                            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

static void put(const char *path, const char *text, size_t len) {
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(text, 1, len, file), len);
    cr_assert_eq(fclose(file), 0);
}

static int judge(const char *token, size_t token_len, const char *key, const char *more) {
    char folder[] = "/tmp/cordon-vector-XXXXXX", path[2][64], command[512];
    cr_assert_not_null(mkdtemp(folder));
    (void)snprintf(path[0], sizeof path[0], "%s/token", folder);
    (void)snprintf(path[1], sizeof path[1], "%s/keys", folder);
    put(path[0], token, token_len);
    put(path[1], key, strlen(key));
    (void)snprintf(command, sizeof command, CORDON_BINARY_DIR "/tests/tools/jws_verify %s %s %s >/dev/null 2>&1", path[0], path[1], more);
    int status = system(command);
    (void)unlink(path[0]);
    (void)unlink(path[1]);
    (void)rmdir(folder);
    return WEXITSTATUS(status);
}

Test(tool, vectors_from_files_are_judged, .timeout = 60) {
    cr_expect_eq(judge(TOKEN, sizeof TOKEN - 1, KEY, ""), 0, "a published example");
    cr_expect_eq(judge(TOKEN, sizeof TOKEN - 2, KEY, ""), 1, "cut");
    cr_expect_eq(judge(TOKEN, sizeof TOKEN - 1, KEY, "joe us 1300819379"), 1, "it has no audience");
    cr_expect_eq(judge(TOKEN, sizeof TOKEN - 1, "no keys", ""), 1);
    cr_expect_eq(judge(TOKEN, sizeof TOKEN - 1, "", ""), 2, "an empty file");
}
