/* far.h - the CPU as a device whose memory C cannot read, as a GPU's: what a GPU would punish, it
 * does. */
#ifndef WANE_TEST_FAR_H
#define WANE_TEST_FAR_H

#include "kernels/kernels.h"

/* Addresses that it gives mean nothing outside its slots, and its slots stop the process at any
 * other. Otherwise it is the CPU, with the activation type given: WANE_F32 or WANE_BF16;
 * but it can record, and stops the process at what a recording may not have in it. */
const wane_kernels *test_far_kernels(wane_dtype activations);

/* How many slots were run by replay, ever, and how many recordings are there now. */
long test_far_replayed(void);
long test_far_recordings(void);

#endif
