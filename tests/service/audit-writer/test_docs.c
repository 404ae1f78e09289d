/* docs/AUDIT_EVENTS.md is what the table prints; `cordon-audit-writer --audit-events-markdown` renews it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit/actions.h"

Test(audit_docs, the_list_of_events_is_the_table) {
    char *printed = NULL, on_disk[65536];
    size_t len = 0;
    FILE *out = open_memstream(&printed, &len);
    audit_actions_print_markdown(out);
    fclose(out);
    FILE *in = fopen(CORDON_SOURCE_DIR "/docs/AUDIT_EVENTS.md", "re");
    cr_assert_not_null(in);
    on_disk[fread(on_disk, 1, sizeof on_disk - 1, in)] = '\0';
    fclose(in);
    cr_expect_str_eq(on_disk, printed);
    free(printed);
}
