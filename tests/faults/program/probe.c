/* fault_probe N: passes the first fault point N times, and says how often it failed there. */
#include <stdio.h>
#include <stdlib.h>

#include "core/fault.h"

int main(int argc, char **argv) {
    long failed = 0;
    for (long n = argc > 1 ? strtol(argv[1], NULL, 10) : 1; n > 0; n--) {
        struct why why = { 0 };
        failed += fault_status((enum fault)0, &why) != ST_OK;
    }
    printf("%ld\n", failed);
    return 0;
}
