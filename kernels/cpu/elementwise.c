/* elementwise.c - convert, binary, unary, reduce, transpose, finite.
 *
 * Rows are cut into chunks that are converted to float32 on the stack, worked on, and converted
 * back. A task is a row, or a chunk of it where there are few rows. */
#include "kernels/cpu/cpu.h"

/* Chunks of all rows, numbered through. */
static int64_t chunks(wane_mat a)
{
    return a.rows * cpu_tiles(a.cols, CPU_CHUNK);
}
static bool is_large(wane_mat a)
{
    return a.rows * a.cols > CPU_SMALL;
}

static bool is_integer(wane_dtype t)
{
    return !cpu_is_float(t);
}

static int64_t integer_at(wane_mat a, int64_t row, int64_t col)
{
    const void *p = cpu_at(a, row, col);
    switch (a.dtype) {
    case WANE_I8: return *(const int8_t *)p;
    case WANE_U8: return *(const uint8_t *)p;
    case WANE_I32: return *(const int32_t *)p;
    default: return *(const int64_t *)p;
    }
}

static int64_t limit(int64_t x, int64_t least, int64_t most)
{
    return x < least ? least : x > most ? most : x;
}

static void integer_set(wane_mat a, int64_t row, int64_t col, int64_t x)
{
    void *p = cpu_at(a, row, col);
    switch (a.dtype) {
    case WANE_I8: *(int8_t *)p = (int8_t)limit(x, INT8_MIN, INT8_MAX); break;
    case WANE_U8: *(uint8_t *)p = (uint8_t)limit(x, 0, UINT8_MAX); break;
    case WANE_I32: *(int32_t *)p = (int32_t)limit(x, INT32_MIN, INT32_MAX); break;
    default: *(int64_t *)p = x; break;
    }
}

wane_status cpu_convert(wane_dev *d, wane_mat y, wane_mat x)
{
    if (!cpu_valid(y) || !cpu_valid(x) || y.rows != x.rows || y.cols != x.cols) return WANE_EARG;
    int64_t per_row = cpu_tiles(x.cols, CPU_CHUNK);
    bool integers = is_integer(x.dtype) && is_integer(y.dtype);
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
    for (int64_t t = 0; t < chunks(x); t++) {
        int64_t row = t / per_row, col = t % per_row * CPU_CHUNK;
        int64_t n = cpu_min(CPU_CHUNK, x.cols - col);
        float buffer[CPU_CHUNK];
        if (x.dtype == y.dtype) {
            memmove(cpu_at(y, row, col), cpu_at(x, row, col),
                    (size_t)n * wane_dtype_bytes(x.dtype));
        } else if (integers) {
            for (int64_t i = col; i < col + n; i++) integer_set(y, row, i, integer_at(x, row, i));
        } else {
            d->loops->load(buffer, cpu_at(x, row, col), x.dtype, n);
            d->loops->store(cpu_at(y, row, col), buffer, y.dtype, n);
        }
    }
    return WANE_OK;
}

static bool repeats(wane_mat a, wane_mat y)
{
    return cpu_valid(a) && (a.rows == y.rows || a.rows == 1) && (a.cols == y.cols || a.cols == 1);
}

/* Part of a row of a repeated operand, as float32. */
static void load_repeated(const wane_dev *d, float *out, wane_mat a, int64_t row, int64_t col,
                          int64_t n)
{
    int64_t from = a.rows == 1 ? 0 : row;
    if (a.cols == 1) {
        d->loops->load(out, cpu_at(a, from, 0), a.dtype, 1);
        for (int64_t i = 1; i < n; i++) out[i] = out[0];
    } else {
        d->loops->load(out, cpu_at(a, from, col), a.dtype, n);
    }
}

wane_status cpu_binary(wane_dev *d, wane_mat y, wane_mat a, wane_mat b, wane_binary_op op)
{
    if (!cpu_valid(y) || !repeats(a, y) || !repeats(b, y) || (unsigned)op > WANE_DIV)
        return WANE_EARG;
    int64_t per_row = cpu_tiles(y.cols, CPU_CHUNK);
#pragma omp parallel for num_threads(d->threads) if (is_large(y))
    for (int64_t t = 0; t < chunks(y); t++) {
        int64_t row = t / per_row, col = t % per_row * CPU_CHUNK;
        int64_t n = cpu_min(CPU_CHUNK, y.cols - col);
        float left[CPU_CHUNK], right[CPU_CHUNK];
        load_repeated(d, left, a, row, col, n);
        load_repeated(d, right, b, row, col, n);
        d->loops->binary(left, left, right, n, op);
        d->loops->store(cpu_at(y, row, col), left, y.dtype, n);
    }
    return WANE_OK;
}

wane_status cpu_unary(wane_dev *d, wane_mat y, wane_mat x, wane_unary_op op)
{
    if (!cpu_valid(y) || !cpu_valid(x) || y.rows != x.rows || y.cols != x.cols ||
        (unsigned)op > WANE_LOG)
        return WANE_EARG;
    int64_t per_row = cpu_tiles(x.cols, CPU_CHUNK);
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
    for (int64_t t = 0; t < chunks(x); t++) {
        int64_t row = t / per_row, col = t % per_row * CPU_CHUNK;
        int64_t n = cpu_min(CPU_CHUNK, x.cols - col);
        float buffer[CPU_CHUNK];
        d->loops->load(buffer, cpu_at(x, row, col), x.dtype, n);
        d->loops->unary(buffer, buffer, n, op);
        d->loops->store(cpu_at(y, row, col), buffer, y.dtype, n);
    }
    return WANE_OK;
}

static double first_of(wane_reduce_op op)
{
    return op == WANE_MAX ? -INFINITY : op == WANE_MIN ? INFINITY : 0;
}

/* NaN stays: a comparison with it is false either way, so it is taken on purpose. */
static double joined(double a, double b, wane_reduce_op op)
{
    switch (op) {
    case WANE_MAX:
    case WANE_ABS_MAX: return a >= b || a != a ? a : b;
    case WANE_MIN: return a <= b || a != a ? a : b;
    default: return a + b;
    }
}

static double mapped(float x, wane_reduce_op op)
{
    return op == WANE_ABS_MAX || op == WANE_ABS_SUM ? fabs((double)x)
           : op == WANE_SQUARE_SUM                  ? (double)x * x
                                                    : x;
}

static double reduce_row(const wane_dev *d, wane_mat x, int64_t row, wane_reduce_op op)
{
    float buffer[CPU_CHUNK];
    double sum = first_of(op);
    for (int64_t col = 0; col < x.cols; col += CPU_CHUNK) {
        int64_t n = cpu_min(CPU_CHUNK, x.cols - col);
        d->loops->load(buffer, cpu_at(x, row, col), x.dtype, n);
        sum = joined(sum, d->loops->reduce(buffer, n, op), op);
    }
    return sum;
}

/* Rows of a block into one number each, blocks of rows one after another: any number of rows in
 * bounded scratch, and the same order of additions with any number of threads. */
static void reduce_all(wane_dev *d, wane_mat y, wane_mat x, wane_reduce_op op)
{
    enum { BLOCK = CPU_SHARED_BYTES / sizeof(double) };
    double *part = cpu_shared(d), sum = first_of(op);
    for (int64_t start = 0; start < x.rows; start += BLOCK) {
        int64_t rows = cpu_min(BLOCK, x.rows - start);
#pragma omp parallel for num_threads(d->threads) if (rows * x.cols > CPU_SMALL)
        for (int64_t i = 0; i < rows; i++) part[i] = reduce_row(d, x, start + i, op);
        for (int64_t i = 0; i < rows; i++) sum = joined(sum, part[i], op);
    }
    *cpu_f32(y, 0) = (float)sum;
}

wane_status cpu_reduce(wane_dev *d, wane_mat y, wane_mat x, wane_reduce_op op)
{
    if (!cpu_valid(x) || !cpu_valid(y) || y.dtype != WANE_F32 || (unsigned)op > WANE_SQUARE_SUM)
        return WANE_EARG;
    if (y.rows == 1 && y.cols == 1) {
        reduce_all(d, y, x, op);
    } else if (y.rows == x.rows && y.cols == 1) {
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
        for (int64_t i = 0; i < x.rows; i++) *cpu_f32(y, i) = (float)reduce_row(d, x, i, op);
    } else if (y.rows == 1 && y.cols == x.cols) {
        enum { STRIP = 128 }; /* columns of a task */
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
        for (int64_t t = 0; t < cpu_tiles(x.cols, STRIP); t++) {
            int64_t col = t * STRIP, n = cpu_min(STRIP, x.cols - col);
            double sum[STRIP];
            float buffer[STRIP];
            for (int64_t i = 0; i < n; i++) sum[i] = first_of(op);
            for (int64_t row = 0; row < x.rows; row++) {
                d->loops->load(buffer, cpu_at(x, row, col), x.dtype, n);
                for (int64_t i = 0; i < n; i++) sum[i] = joined(sum[i], mapped(buffer[i], op), op);
            }
            for (int64_t i = 0; i < n; i++) cpu_f32(y, 0)[col + i] = (float)sum[i];
        }
    } else {
        return WANE_EARG;
    }
    return WANE_OK;
}

#define TRANSPOSE(type)                                                                            \
    for (int64_t i = row; i < row_end; i++)                                                        \
        for (int64_t j = col; j < col_end; j++)                                                    \
    ((type *)y.data)[j * y.stride + i] = ((const type *)x.data)[i * x.stride + j]

wane_status cpu_transpose(wane_dev *d, wane_mat y, wane_mat x)
{
    enum { SIDE = 32 }; /* a square of 4 KiB of floats on either side stays in the first cache */
    if (!cpu_valid(y) || !cpu_valid(x) || y.rows != x.cols || y.cols != x.rows ||
        y.dtype != x.dtype || (y.data == x.data && x.rows * x.cols > 1))
        return WANE_EARG;
    int64_t across = cpu_tiles(x.cols, SIDE), tasks = cpu_tiles(x.rows, SIDE) * across;
#pragma omp parallel for num_threads(d->threads) if (is_large(x))
    for (int64_t t = 0; t < tasks; t++) {
        int64_t row = t / across * SIDE, row_end = cpu_min(row + SIDE, x.rows);
        int64_t col = t % across * SIDE, col_end = cpu_min(col + SIDE, x.cols);
        switch (wane_dtype_bytes(x.dtype)) {
        case 1: TRANSPOSE(uint8_t); break;
        case 2: TRANSPOSE(uint16_t); break;
        case 4: TRANSPOSE(uint32_t); break;
        default: TRANSPOSE(uint64_t); break;
        }
    }
    return WANE_OK;
}

wane_status cpu_finite(wane_dev *d, wane_mat count, wane_mat x)
{
    if (!cpu_is(count, WANE_I64, 1, 1) || !cpu_valid(x)) return WANE_EARG;
    int64_t bad = 0, per_row = cpu_tiles(x.cols, CPU_CHUNK);
    if (is_integer(x.dtype)) {
        *(int64_t *)count.data = 0;
        return WANE_OK;
    }
#pragma omp parallel for num_threads(d->threads) reduction(+ : bad) if (is_large(x))
    for (int64_t t = 0; t < chunks(x); t++) {
        int64_t row = t / per_row, col = t % per_row * CPU_CHUNK;
        int64_t n = cpu_min(CPU_CHUNK, x.cols - col);
        float buffer[CPU_CHUNK];
        d->loops->load(buffer, cpu_at(x, row, col), x.dtype, n);
        int32_t here = 0;
        for (int64_t i = 0; i < n; i++) here += (cpu_bits(buffer[i]) & 0x7f800000) == 0x7f800000;
        bad += here;
    }
    *(int64_t *)count.data = bad;
    return WANE_OK;
}
