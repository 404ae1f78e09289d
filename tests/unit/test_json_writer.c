/* json/writer: the output is JSON whatever goes in, or json_finish says no. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "json/reader.h"
#include "json/writer.h"

Test(json_writer, writes_nested_values) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct json_writer w;
    json_begin(&w, &out);
    json_open_object(&w);
    json_put_name(&w, "a");
    json_open_array(&w);
    json_put_i64(&w, INT64_MIN);
    json_put_u64(&w, UINT64_MAX);
    json_put_double(&w, 0.1);
    json_put_double(&w, 1.0 / 3);
    json_close_array(&w);
    json_put_name(&w, "b\"");
    json_put_text(&w, NULL);
    json_put_name(&w, "c");
    json_open_object(&w);
    json_close_object(&w);
    json_put_name(&w, "d");
    json_put_bool(&w, true);
    json_close_object(&w);
    cr_assert(json_finish(&w));
    cr_assert_str_eq(out.data, "{\"a\":[-9223372036854775808,18446744073709551615,0.1,0.3333333333333333],"
                               "\"b\\\"\":null,\"c\":{},\"d\":true}");
}

Test(json_writer, any_bytes_become_a_valid_string) {
    struct why why = { 0 };
    for (int first = 0; first < 256; first++)
        for (int second = 1; second < 256; second += 7) {
            CLEANUP(buffer_end) struct buffer out = { 0 };
            struct json_writer w;
            json_begin(&w, &out);
            json_open_array(&w);
            json_put_bytes(&w, (const char[]){ (char)first, (char)second }, 2);
            json_close_array(&w);
            cr_assert(json_finish(&w));
            CLEANUP(json_destroy) json_t *value = NULL;
            if (first)      /* U+0000 is written as an escape, which our own reader refuses */
                cr_assert_eq(json_parse(out.data, out.len, 64, &value, &why), ST_OK, "%02x %02x %s", first, second, out.data);
        }
}

Test(json_writer, escapes_control_characters) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct json_writer w;
    json_begin(&w, &out);
    json_put_bytes(&w, "\n\r\t\x01\"\\/\x7f\xff\xe2\x82\xac", 12);
    cr_assert(json_finish(&w));
    cr_assert_str_eq(out.data, "\"\\n\\r\\t\\u0001\\\"\\\\/\x7f\xef\xbf\xbd\xe2\x82\xac\"");
}

Test(json_writer, mistakes_are_remembered) {
    CLEANUP(buffer_end) struct buffer out = { 0 };
    struct json_writer w;
    json_begin(&w, &out);
    cr_assert(!json_finish(&w), "nothing written");
    json_open_object(&w);
    json_put_i64(&w, 1);
    json_close_object(&w);
    cr_assert(!json_finish(&w), "value without a name");
    json_begin(&w, &out);
    json_open_array(&w);
    json_put_name(&w, "a");
    cr_assert(!json_finish(&w), "name in an array");
    json_begin(&w, &out);
    json_put_i64(&w, 1);
    json_put_i64(&w, 2);
    cr_assert(!json_finish(&w), "two values");
    json_begin(&w, &out);
    json_open_array(&w);
    cr_assert(!json_finish(&w), "not closed");
    json_close_object(&w);
    cr_assert(!json_finish(&w), "closed by the wrong bracket");
    json_begin(&w, &out);
    json_put_double(&w, NAN);
    cr_assert(!json_finish(&w), "not finite");
    json_begin(&w, &out);
    for (int i = 0; i <= JSON_WRITER_DEPTH_MAX; i++)
        json_open_array(&w);
    for (int i = 0; i <= JSON_WRITER_DEPTH_MAX; i++)
        json_close_array(&w);
    cr_assert(!json_finish(&w), "too deep");
}

Test(json_writer, a_full_buffer_is_remembered) {
    CLEANUP(buffer_end) struct buffer out = { .limit_bytes = 8 };
    struct json_writer w;
    json_begin(&w, &out);
    json_put_text(&w, "123456789");
    cr_assert(!json_finish(&w));
}
