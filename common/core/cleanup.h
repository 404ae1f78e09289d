/* cleanup — scope-bound release, and the few attributes that the house style allows.
 * Every destructor is `void x_destroy(struct x **)`: safe on NULL, nulls the pointer, may run
 * twice. That is exactly what the cleanup attribute calls, so no wrappers are needed. */
#ifndef CORDON_CORE_CLEANUP_H
#define CORDON_CORE_CLEANUP_H

#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
