/* models.h - opening the models of the tree, for tests. All fail the test where they cannot. */
#ifndef WANE_TEST_MODELS_H
#define WANE_TEST_MODELS_H

#include "runtime/model/model.h"

wane_device *test_device(uint64_t budget); /* a CPU */
wane_model *test_model_open(const char *path,
                            wane_device *); /* path in the tree; host is the device */
/* Whether one of the findings says that. */
bool test_listed(const wane_findings *, const char *says);
/* (n, vocabulary) on the host; free */
float *test_model_logits(wane_model *, const int32_t *ids, size_t n);
double test_distance(const float *a, const float *b,
                     size_t n); /* relative error of a against b, as norms */

#endif
