/* measure.h - what a device can do at most, measured on it: what speeds are to be compared with. */
#ifndef WANE_MEASURE_H
#define WANE_MEASURE_H

#include "runtime/tensor/tensor.h"

typedef struct {
    double read;    /* bytes a second at which a large buffer is read, to look for NaN */
    double copy;    /* bytes a second that a copy within the device reads and writes together */
    double product; /* operations a second of a square product of the device's activation type */
    int64_t side;   /* of that product */
} wane_limits;

/* Medians of several runs each; a second or so. Takes memory for that time, less where little is
 * free. */
wane_status wane_device_measure(wane_device *, wane_limits *out, wane_err *e);

#endif
