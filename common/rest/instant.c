#include "rest/instant.h"

#include <string.h>
#include <time.h>

/* Reads exactly n digits at *p, at most max. */
static bool digits(const char **p, const char *end, int n, int min, int max, int *ret_value) {
    int value = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (*p == end || **p < '0' || **p > '9')
            return false;
        value = value * 10 + (**p - '0');
    }
    *ret_value = value;
    return value >= min && value <= max;
}

static bool one(const char **p, const char *end, char c) {
    return *p != end && *(*p)++ == c;
}

static int days_in(int year, int month) {
    static const int DAYS[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return DAYS[month - 1] + (month == 2 && is_leap);
}

static bool fraction(const char **p, const char *end, int *ret_us) {
    int us = 0, scale = 100000, count = 0;
    for (; *p != end && **p >= '0' && **p <= '9'; (*p)++, count++) {
        us += (**p - '0') * scale;
        scale /= 10;
    }
    *ret_us = us;
    return count >= 1 && count <= 6;
}

static bool offset(const char **p, const char *end, int *ret_minutes) {
    if (*p == end)
        return false;
    char sign = *(*p)++;
    *ret_minutes = 0;
    if (sign == 'Z')
        return true;
    int hours, minutes;
    if ((sign != '+' && sign != '-') || !digits(p, end, 2, 0, 23, &hours) || !one(p, end, ':') ||
        !digits(p, end, 2, 0, 59, &minutes))
        return false;
    *ret_minutes = (sign == '-' ? -1 : 1) * (hours * 60 + minutes);
    return true;
}

bool instant_parse(const char *text, size_t len, int64_t *ret_unix_us) {
    const char *p = text, *end = text + len;
    int year, month, day, hour, minute, second, us = 0, offset_minutes;
    if (!digits(&p, end, 4, 1, 9999, &year) || !one(&p, end, '-') || !digits(&p, end, 2, 1, 12, &month) ||
        !one(&p, end, '-') || !digits(&p, end, 2, 1, days_in(year, month), &day) || !one(&p, end, 'T') ||
        !digits(&p, end, 2, 0, 23, &hour) || !one(&p, end, ':') || !digits(&p, end, 2, 0, 59, &minute) ||
        !one(&p, end, ':') || !digits(&p, end, 2, 0, 59, &second))
        return false;
    if (p != end && *p == '.') {
        p++;
        if (!fraction(&p, end, &us))
            return false;
    }
    if (!offset(&p, end, &offset_minutes) || p != end)
        return false;
    struct tm tm = { .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day,
                     .tm_hour = hour, .tm_min = minute, .tm_sec = second };
    *ret_unix_us = ((int64_t)timegm(&tm) - offset_minutes * 60LL) * 1000000 + us;
    return true;
}
