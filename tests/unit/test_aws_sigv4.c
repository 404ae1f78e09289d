/* aws/sigv4 against AWS's published examples: the IAM and S3 walk-throughs of its documentation, and the results
 * that its signing test suite gives for awkward paths, queries and headers. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <string.h>

#include "aws/sigv4.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static struct arena *mem;
static struct credentials *iam, *s3;

static struct credentials *credentials_of(const char *id, const char *key) {
    CLEANUP(secret_destroy) struct secret *secret = secret_new(key, strlen(key));
    return credentials_new(id, secret, NULL, 0);
}

static void set_up(void) {
    mem = arena_new(0);
    iam = credentials_of("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    s3 = credentials_of("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
}

static void tear_down(void) {
    credentials_release(&iam);
    credentials_release(&s3);
    arena_destroy(&mem);
}

TestSuite(aws_sigv4, .init = set_up, .fini = tear_down);

static void check(const struct credentials *c, const struct sigv4_scope *scope, const struct sigv4_request *request, const char *want) {
    const char *value = sigv4_authorization(mem, c, scope, request);
    cr_assert_str_eq(strstr(value, "Signature=") + 10, want, "%s\n%s", value, sigv4_canonical_request(mem, request));
}

Test(aws_sigv4, signs_the_list_users_example) {
    const struct sigv4_scope scope = { "20150830T123600Z", "us-east-1", "iam" };
    const struct sigv4_pair query[] = { { "Version", "2010-05-08" }, { "Action", "ListUsers" } };
    const struct sigv4_pair headers[] = { { "X-Amz-Date", "20150830T123600Z" }, { "Host", "iam.amazonaws.com" },
                                          { "Content-Type", "application/x-www-form-urlencoded; charset=utf-8" } };
    const struct sigv4_request request = { "GET", "/", SIGV4_PATH_NORMALIZED, query, 2, headers, 3, EMPTY };
    const char *canonical = sigv4_canonical_request(mem, &request);
    cr_assert_str_eq(canonical, "GET\n/\nAction=ListUsers&Version=2010-05-08\n"
                                "content-type:application/x-www-form-urlencoded; charset=utf-8\nhost:iam.amazonaws.com\n"
                                "x-amz-date:20150830T123600Z\n\ncontent-type;host;x-amz-date\n" EMPTY);
    cr_assert_str_eq(sigv4_string_to_sign(mem, &scope, canonical),
                     "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n"
                     "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59");
    cr_assert_str_eq(sigv4_authorization(mem, iam, &scope, &request),
                     "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
                     "SignedHeaders=content-type;host;x-amz-date, "
                     "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7");
}

static const struct sigv4_scope S3_SCOPE = { "20130524T000000Z", "us-east-1", "s3" };
#define S3_HOST { "host", "examplebucket.s3.amazonaws.com" }, { "x-amz-date", "20130524T000000Z" }

Test(aws_sigv4, signs_the_s3_examples) {
    const struct sigv4_pair get[] = { S3_HOST, { "range", "bytes=0-9" }, { "x-amz-content-sha256", EMPTY } };
    check(s3, &S3_SCOPE, &(struct sigv4_request){ "GET", "/test.txt", SIGV4_PATH_AS_SENT, NULL, 0, get, 4, EMPTY },
          "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");

    const char *body = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
    const struct sigv4_pair put[] = { S3_HOST, { "date", "Fri, 24 May 2013 00:00:00 GMT" },
                                      { "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-content-sha256", body } };
    check(s3, &S3_SCOPE,
          &(struct sigv4_request){ "PUT", sigv4_encode(mem, "/test$file.text", true), SIGV4_PATH_AS_SENT, NULL, 0, put, 5, body },
          "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");

    const struct sigv4_pair plain[] = { S3_HOST, { "x-amz-content-sha256", EMPTY } }, lifecycle[] = { { "lifecycle", "" } },
                            list[] = { { "prefix", "J" }, { "max-keys", "2" } };
    check(s3, &S3_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_AS_SENT, lifecycle, 1, plain, 3, EMPTY },
          "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    check(s3, &S3_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_AS_SENT, list, 2, plain, 3, EMPTY },
          "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

Test(aws_sigv4, presigns_the_s3_example) {
    const struct sigv4_pair host[] = { { "host", "examplebucket.s3.amazonaws.com" } };
    const struct sigv4_request request = { "GET", "/test.txt", SIGV4_PATH_AS_SENT, NULL, 0, host, 1, SIGV4_UNSIGNED };
    cr_assert_str_eq(sigv4_presign(mem, s3, &S3_SCOPE, &request, 86400, NULL),
                     "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                     "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                     "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

Test(aws_sigv4, signs_the_chunks_of_the_s3_example) {
    static const char *const WANT[] = { "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9" };
    static const size_t LENGTHS[] = { 65536, 1024, 0 };
    const struct sigv4_pair headers[] = { { "host", "s3.amazonaws.com" }, { "x-amz-date", "20130524T000000Z" },
        { "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-content-sha256", SIGV4_STREAMING }, { "content-encoding", "aws-chunked" },
        { "x-amz-decoded-content-length", "66560" }, { "content-length", "66824" } };
    const struct sigv4_request request = { "PUT", "/examplebucket/chunkObject.txt", SIGV4_PATH_AS_SENT, NULL, 0, headers, 7, SIGV4_STREAMING };
    check(s3, &S3_SCOPE, &request, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    char body[65536], previous[SHA256_HEX_BYTES] = "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", next[SHA256_HEX_BYTES];
    memset(body, 'a', sizeof body);
    for (int i = 0; i < 3; i++) {
        sigv4_chunk_signature(s3->secret_access_key, &S3_SCOPE, previous, body, LENGTHS[i], next);
        cr_expect_str_eq(next, WANT[i]);
        memcpy(previous, next, sizeof next);
    }
}

struct path_case { char path[48]; char want[65]; };

ParameterizedTestParameters(aws_sigv4, awkward_paths) {
    static struct path_case cases[] = {
        { "/example1/example2/../..", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31" },
        { "/example space/", "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741" },
        { "/./example", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5" },
        { "/\xe1\x88\xb4", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85" },
    };
    return cr_make_param_array(struct path_case, cases, sizeof cases / sizeof *cases);
}

static const struct sigv4_scope SUITE_SCOPE = { "20150830T123600Z", "us-east-1", "service" };
#define SUITE_HOST { "Host", "example.amazonaws.com" }, { "X-Amz-Date", "20150830T123600Z" }

ParameterizedTest(struct path_case *c, aws_sigv4, awkward_paths) {
    const struct sigv4_pair headers[] = { SUITE_HOST };
    check(iam, &SUITE_SCOPE, &(struct sigv4_request){ "GET", c->path, SIGV4_PATH_NORMALIZED, NULL, 0, headers, 2, EMPTY }, c->want);
}

Test(aws_sigv4, headers_are_joined_trimmed_and_folded) {
    const struct sigv4_pair twice[] = { SUITE_HOST, { "My-Header1", "value2" }, { "My-Header1", "value2" }, { "My-Header1", "value1" } };
    check(iam, &SUITE_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_NORMALIZED, NULL, 0, twice, 5, EMPTY },
          "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea");
    const struct sigv4_pair lines[] = { SUITE_HOST, { "My-Header1", "value1\n  value2\n     value3" } };
    check(iam, &SUITE_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_NORMALIZED, NULL, 0, lines, 3, EMPTY },
          "cfd34249e4b1c8d6b91ef74165d41a32e5fab3306300901bb65a51a73575eefd");
}

Test(aws_sigv4, values_that_came_in_several_portions_are_joined_by_commas) {
    const struct sigv4_pair lines[] = { SUITE_HOST, { "My-Header1", "value1" }, { "My-Header1", "  value2" }, { "My-Header1", " value3 " } };
    check(iam, &SUITE_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_NORMALIZED, NULL, 0, lines, 5, EMPTY },
          "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790");
}

Test(aws_sigv4, queries_are_sorted_by_their_encoded_names) {
    const struct sigv4_pair headers[] = { SUITE_HOST };
    const struct sigv4_pair query[] = { { "Param-3", "Value3" }, { "Param", "Value2" }, { "\xe1\x88\xb4", "Value1" } };
    check(iam, &SUITE_SCOPE, &(struct sigv4_request){ "GET", "/", SIGV4_PATH_NORMALIZED, query, 3, headers, 2, EMPTY },
          "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac");
}

Test(aws_sigv4, paths_of_all_but_s3_are_encoded_again) {
    const struct sigv4_request twice = { "POST", "/model/titan%3A0/invoke", SIGV4_PATH_ENCODED, NULL, 0, NULL, 0, EMPTY };
    cr_assert_eq(strncmp(sigv4_canonical_request(mem, &twice), "POST\n/model/titan%253A0/invoke\n\n\n\n" EMPTY, 40), 0);
    const struct sigv4_request once = { "PUT", "/bucket/a%3Ab", SIGV4_PATH_AS_SENT, NULL, 0, NULL, 0, EMPTY };
    cr_assert_eq(strncmp(sigv4_canonical_request(mem, &once), "PUT\n/bucket/a%3Ab\n", 18), 0);
}

Test(aws_sigv4, a_presigned_query_carries_the_session_token) {
    CLEANUP(secret_destroy) struct secret *key = secret_new("k", 1), *token = secret_new("a+/=", 4);
    CLEANUP(credentials_release) struct credentials *c = credentials_new("ID", key, token, 0);
    const struct sigv4_pair host[] = { { "host", "h" } };
    const struct sigv4_request request = { "GET", "/", SIGV4_PATH_AS_SENT, NULL, 0, host, 1, SIGV4_UNSIGNED };
    cr_assert_not_null(strstr(sigv4_presign(mem, c, &S3_SCOPE, &request, 60, NULL), "&X-Amz-Security-Token=a%2B%2F%3D&"));
    secret_destroy(&token);
}

Test(aws_sigv4, formats_time) {
    char out[SIGV4_TIME_BYTES];
    cr_assert_str_eq(sigv4_time(INT64_C(1440938160000000), out), "20150830T123600Z");
}
