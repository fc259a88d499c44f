/* far.h - the CPU as a device whose memory C cannot read, as a GPU's: what a GPU would punish, it
 * does. */
#ifndef WANE_TEST_FAR_H
#define WANE_TEST_FAR_H

#include "kernels/kernels.h"

/* Addresses that it gives mean nothing outside its slots, and its slots stop the process at any
 * other. Otherwise it is the CPU, with the activation type given: WANE_F32 or WANE_BF16. */
const wane_kernels *test_far_kernels(wane_dtype activations);

#endif
