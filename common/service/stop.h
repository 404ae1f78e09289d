/* stop — the one switch that tells every thread of a process to end. Set once; any thread may ask. */
#ifndef CORDON_SERVICE_STOP_H
#define CORDON_SERVICE_STOP_H

struct runtime_stop;

struct runtime_stop *runtime_stop_new(void);
void runtime_stop_destroy(struct runtime_stop **stop_p);
void runtime_stop_set(struct runtime_stop *stop);

#endif
