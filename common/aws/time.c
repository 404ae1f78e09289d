#include "aws/time.h"

#include <stddef.h>
#include <time.h>

bool aws_time_parse(const char *text, int64_t *ret_unix_us) {
    struct tm tm = { 0 };
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    if (rest && *rest == '.')
        for (rest++; *rest >= '0' && *rest <= '9'; rest++)
            continue;
    if (!rest || rest[0] != 'Z' || rest[1] != '\0')
        return false;
    *ret_unix_us = (int64_t)timegm(&tm) * 1000000;
    return true;
}
