/* methods — which bus methods may be sent again to another replica. Pure. */
#ifndef CORDON_BUS_METHODS_H
#define CORDON_BUS_METHODS_H

#include <stdbool.h>

bool method_is_repeatable(const char *method);

#endif
