#include <criterion/criterion.h>
#include <string.h>

#include "secrets/secrets.h"

#define ARN "arn:aws:secretsmanager:eu-west-1:123456789012:secret:cordon/query/database-AbCdEf"

Test(secrets_names, a_reference_names_a_secret_a_key_and_a_version) {
    static const struct { const char *text, *id, *key, *stage, *version; } CASES[] = {
        { ARN, ARN, "", "AWSCURRENT", "" },
        { ARN ":password", ARN, "password", "AWSCURRENT", "" },
        { ARN ":password::", ARN, "password", "AWSCURRENT", "" },
        { ARN ":password:AWSPREVIOUS:", ARN, "password", "AWSPREVIOUS", "" },
        { ARN ":::0190f5c2-aaaa-bbbb-cccc-000000000001", ARN, "", "", "0190f5c2-aaaa-bbbb-cccc-000000000001" },
        { "arn:aws-us-gov:secretsmanager:eu-west-1:1:secret:n", "arn:aws-us-gov:secretsmanager:eu-west-1:1:secret:n", "", "AWSCURRENT", "" },
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct secret_name name;
        struct why why = { 0 };
        cr_assert_eq(secret_name_parse(CASES[i].text, "eu-west-1", &name, &why), ST_OK, "%s: %s", CASES[i].text, why.text);
        cr_expect_str_eq(name.id, CASES[i].id);
        cr_expect_str_eq(name.key, CASES[i].key);
        cr_expect_str_eq(name.stage, CASES[i].stage);
        cr_expect_str_eq(name.version_id, CASES[i].version);
    }
}

Test(secrets_names, what_is_no_arn_of_a_secret_here_is_refused) {
    char long_key[400] = ARN ":";
    memset(long_key + strlen(long_key), 'k', 300);
    const char *const cases[] = {
        "", "cordon/query/database", "arn:aws:s3:::bucket", "arn:aws:kms:eu-west-1:1:key:x", "arn:aws:secretsmanager:eu-west-1:1:secret:",
        "arn:aws:secretsmanager:eu-west-1:1:secret", "arn:aws:secretsmanager:us-east-1:1:secret:n", "arn:aws:secretsmanager:eu-west-10:1:secret:n",
        ARN ":k:AWSCURRENT:v", ARN ":k:s:v:more", "https://secretsmanager", long_key };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct secret_name name;
        struct why why = { 0 };
        cr_expect_eq(secret_name_parse(cases[i], "eu-west-1", &name, &why), ST_INVALID, "'%s' was taken", cases[i]);
        cr_expect(*why.text);
    }
}
