/* aws: the error tables, XML values and ARNs. */
#include <criterion/criterion.h>
#include <string.h>

#include "aws/errors.h"
#include "aws/sts.h"
#include "aws/xml.h"

Test(aws_errors, codes_and_statuses_have_kinds) {
    cr_assert_eq(aws_error_kind("ThrottlingException", 400), AWS_THROTTLED);
    cr_assert_eq(aws_error_kind("SlowDown", 503), AWS_THROTTLED);
    cr_assert_eq(aws_error_kind("DisabledException", 400), AWS_KEY_DISABLED);
    cr_assert_eq(aws_error_kind("", 429), AWS_THROTTLED);
    cr_assert_eq(aws_error_kind("", 500), AWS_TRANSIENT);
    cr_assert_eq(aws_error_kind("SomethingNew", 599), AWS_TRANSIENT);
    cr_assert_eq(aws_error_kind("SomethingNew", 403), AWS_REFUSED);
    cr_assert_eq(aws_error_kind("SomethingNew", 400), AWS_OURS);
}

Test(aws_errors, every_code_is_listed_once) {
    static const char *const CODES[] = {
#define AWS_ERROR(code, kind) code,
#include "aws/errors.def"
#undef AWS_ERROR
    };
    for (size_t i = 0; i < sizeof CODES / sizeof *CODES; i++)
        for (size_t j = 0; j < i; j++)
            cr_assert_str_neq(CODES[i], CODES[j]);
}

Test(aws_errors, clients_see_the_services_codes) {
    cr_assert_eq(aws_public_error("kms", AWS_KEY_DISABLED), ERR_KMS_DISABLED);
    cr_assert_eq(aws_public_error("kms", AWS_REFUSED), ERR_KMS_UNAVAILABLE);
    cr_assert_eq(aws_public_error("s3", AWS_THROTTLED), ERR_STORE_UNAVAILABLE);
    cr_assert_eq(aws_public_error("s3", AWS_MISSING), ERR_NOT_FOUND);
    cr_assert_eq(aws_public_error("bedrock", AWS_THROTTLED), ERR_MODEL_LIMITED);
    cr_assert_eq(aws_public_error("bedrock", AWS_TRANSIENT), ERR_MODEL_UNAVAILABLE);
    cr_assert_eq(aws_public_error("sts", AWS_TRANSIENT), ERR_UNAVAILABLE);
    cr_assert_eq(aws_public_error("kms", AWS_OURS), ERR_INTERNAL);
}

static bool text_of(struct arena *mem, const char *xml, const char *name, char **ret) {
    return xml_text(mem, xml, strlen(xml), name, ret);
}

Test(aws_xml, takes_the_text_of_the_first_element) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char *text = NULL;
    cr_assert(text_of(mem, "<a><UploadId>x&amp;&lt;&#34;y</UploadId><UploadId>z</UploadId></a>", "UploadId", &text));
    cr_assert_str_eq(text, "x&<\"y");
    cr_assert(text_of(mem, "<Code></Code>", "Code", &text));
    cr_assert_str_eq(text, "");
}

Test(aws_xml, what_is_not_as_expected_is_not_there) {
    CLEANUP(arena_destroy) struct arena *mem = arena_new(0);
    char *text = NULL;
    static const char *const BAD[] = { "", "<Code>", "<Code>x", "</Code>x<Code>", "<Code><b>x</b></Code>", "<Code>&evil;</Code>",
                                       "<Code>&#0;</Code>", "<Code>&#300;</Code>", "<Code>&</Code>", "<Code>&#x41;</Code>", NULL };
    for (int i = 0; BAD[i]; i++)
        cr_assert_not(text_of(mem, BAD[i], "Code", &text), "%s", BAD[i]);
    cr_assert_not(xml_text(mem, NULL, 0, "Code", &text));
}

Test(aws_xml, escapes) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    cr_assert(xml_escape("\"a\" <b> & 'c'", &out));
    cr_assert_str_eq(out.data, "&quot;a&quot; &lt;b&gt; &amp; &apos;c&apos;");
}

Test(aws_sts, arns_have_names) {
    char name[32];
    cr_assert(sts_arn_name("arn:aws:iam::123456789012:user/cordon-query", name, sizeof name));
    cr_assert_str_eq(name, "cordon-query");
    cr_assert(sts_arn_name("arn:aws:iam::123456789012:user/team/cordon-query", name, sizeof name));
    cr_assert_str_eq(name, "cordon-query");
    cr_assert(sts_arn_name("arn:aws:sts::123456789012:assumed-role/cordon-auth/i-0abc", name, sizeof name));
    cr_assert_str_eq(name, "cordon-auth");
    cr_assert_not(sts_arn_name("arn:aws:iam::123456789012:root", name, sizeof name));
    cr_assert_not(sts_arn_name("arn:aws:iam::1:user/", name, sizeof name));
    cr_assert_not(sts_arn_name("cordon-query", name, sizeof name));
    cr_assert_not(sts_arn_name("arn:aws:iam::1:user/a-name-that-is-longer-than-thirty-one", name, sizeof name));
}
