/* trials — what hardening forbids, tried by the real process at one of its fault points. */
#ifndef CORDON_FAULTS_TRIALS_H
#define CORDON_FAULTS_TRIALS_H

enum { TRIAL_RESULT_BYTES = 128 };

/* Writes "refused: <errno's name>" or "done: ..." into result; may not return. An unknown word is "no such trial". */
void trial_run(const char *word, char result[TRIAL_RESULT_BYTES]);

#endif
