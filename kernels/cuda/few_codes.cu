/* few_codes.cu - products of few rows with codes of four bits: see few_lines.cuh.
 *
 * Codes become exact small numbers, code - 8; scale and zero are applied in float32 to the sums of a group, so nothing is
 * rounded between code and product: y = sum_g s_g (sum (q - 8) x + (8 - z_g) sum x). Scales and zeros of an item come with
 * its codes, as words, where they lie on words (CLOSE); else they are read when they are needed. */
#include "kernels/cuda/few_lines.cuh"

static __device__ __forceinline__ uint32_t nth(const uint4 &v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }

/* 128 columns a step, 32 a lane, of which SPAN_ share a scale. */
template <typename T_, int SPAN_, bool CLOSE, int SLICES> struct nibbles {
    using T = T_;
    static constexpr int COLUMNS = 128, SPAN = SPAN_, STEPS = 2, RING = 2;
    static constexpr bool CODES = true;
    static constexpr int WORDS = SPAN / 32, PER_STEP = 128 / SPAN, GRID = STEPS * PER_STEP, LINES = 3 - SLICES;
    /* Four lanes read 64 neighbouring bytes: a lane's word i meets place 4 i + t. */
    static __device__ __forceinline__ int place(int unit)
    {
        int u = unit % 16, first = unit - u;
        return SPAN == 128 ? first + u % 4 * 4 + u / 4 : SPAN == 64 ? first + (u / 8 * 2 + u % 2) * 4 + u % 8 / 2 : unit;
    }
    /* A lane's codes of each span lie together. */
    static __device__ __forceinline__ void copy(char *to, const char *step, int t, bool there)
    {
        constexpr int PIECE = WORDS * 4;
#pragma unroll
        for (int i = 0; i < PER_STEP; i++) copy_if<PIECE>(to + i * PIECE, step + (i * 4 + t) * PIECE, there);
    }
    /* to: this lane's first word; others follow 128 bytes apart. */
    static __device__ __forceinline__ void copy_grid(char *to, int i, const lines_args &a, const lines_part &part, int line, int step)
    {
        if (!CLOSE) return;
        bool there = step < a.steps;
        const char *scale = part.scale + (int64_t)line * part.scale_pitch + step * PER_STEP * (a.full_scale ? 4 : 2);
        const char *zero = part.zero + (int64_t)line * part.zero_pitch + (step * PER_STEP * (a.full_zero ? 4 : 1) & ~3);
        to += i * (a.scale_words + a.zero_words) * 128;
#pragma unroll
        for (int j = 0; j < GRID; j++)
            if (j < a.scale_words) copy_if<4>(to + j * 128, scale + j * 4, there);
        to += a.scale_words * 128;
#pragma unroll
        for (int j = 0; j < GRID; j++)
            if (j < a.zero_words) copy_if<4>(to + j * 128, zero + j * 4, there);
    }
    /* s, and s (8 - z), of a span of this lane's i-th line; first: the step with which its half begins. */
    static __device__ __forceinline__ float2 close_grid(const char *grid, const lines_args &a, int i, int span, int first)
    {
        const uint32_t *words = (const uint32_t *)grid + i * (a.scale_words + a.zero_words) * 32, *zeros = words + a.scale_words * 32;
        uint32_t s = a.full_scale ? words[span * 32] : words[span / 2 * 32] >> (span & 1) * 16 & 0xffffu;
        float scale = float_of(s, a.full_scale ? WANE_F32 : a.half_scale ? WANE_F16 : WANE_BF16), zero = 0;
        if (a.full_zero) {
            zero = 8.f - __uint_as_float(zeros[span * 32]);
        } else if (a.zeros) {
            int byte = GRID == 2 ? (first & 2) + span : span; /* two zeros of four in a word */
            zero = 8388616.f - __uint_as_float(0x4b000000u | (zeros[byte / 4 * 32] >> (byte & 3) * 8 & 0xffu)); /* 2^23 + z */
        }
        return make_float2(scale, scale * zero);
    }
    static __device__ __forceinline__ float2 far_grid(const lines_args &a, const lines_part &part, int line, int span, int first)
    {
        int step = first + span / PER_STEP, group = PER_STEP == 1 ? step / a.per_group : first * PER_STEP + span;
        if (step >= a.steps) return make_float2(0, 0);
        const char *from = part.scale + (int64_t)line * part.scale_pitch;
        uint32_t s = a.full_scale ? ((const uint32_t *)from)[group] : ((const uint16_t *)from)[group];
        float scale = float_of(s, a.full_scale ? WANE_F32 : a.half_scale ? WANE_F16 : WANE_BF16), zero = 8;
        from = part.zero + (int64_t)line * part.zero_pitch;
        if (a.zeros) zero = a.full_zero ? ((const float *)from)[group] : (float)((const uint8_t *)from)[group];
        return make_float2(scale, scale * (8.f - zero));
    }
    template <int M>
    static __device__ __forceinline__ void use(float out[4], const char *own, const lines_args &a, const uint4 *x, const float *total,
                                               const lines_at &at, int begin, int count, bool second)
    {
        constexpr int WIDTH = LINES_TOKENS / SLICES;
        int line[LINES], step = at.chunk * SLICES * STEPS, first = step + (second ? STEPS : 0);
        const lines_part *part_of[LINES] = {};
        const char *grid = own + 2 * STEPS * 512 - (threadIdx.x & 31) * 12;
#pragma unroll
        for (int i = 0; i < LINES && !CLOSE; i++) part_of[i] = &lines_line<M, SLICES>(a, at, i, begin, count, line[i]);
        total += step * PER_STEP * WIDTH;
#pragma unroll
        for (int span = 0; span < GRID; span++) {
            float part[2][4] = {};
            uint4 u = *(const uint4 *)(own + span / PER_STEP * 512), v = *(const uint4 *)(own + (STEPS + span / PER_STEP) * 512);
#pragma unroll
            for (int i = 0; i < WORDS; i++) {
                int word = span % PER_STEP * WORDS + i;
                uint32_t p = nth(u, word), q = nth(v, word);
                uint4 b = x[span / PER_STEP * 16 + word * 4];
                narrow<T>::mma(part[0], code_pair<T>(p), code_pair<T>(q), code_pair<T>(p >> 4), code_pair<T>(q >> 4), b.x, b.y);
                narrow<T>::mma(part[1], code_pair<T>(p >> 8), code_pair<T>(q >> 8), code_pair<T>(p >> 12), code_pair<T>(q >> 12), b.z,
                               b.w);
            }
            float2 s[LINES], all = *(const float2 *)(total + span * WIDTH);
#pragma unroll
            for (int i = 0; i < LINES; i++)
                s[i] = CLOSE ? close_grid(grid, a, i, span, first) : far_grid(a, *part_of[i], line[i], span, first);
            if (SLICES == 2) {
                float low = second ? part[0][2] + part[1][2] : part[0][0] + part[1][0];
                float high = second ? part[0][3] + part[1][3] : part[0][1] + part[1][1];
                out[0] += s[0].x * low + s[0].y * all.x;
                out[1] += s[0].x * high + s[0].y * all.y;
            } else {
#pragma unroll
                for (int e = 0; e < 4; e++)
                    out[e] += s[e / 2 % LINES].x * (part[0][e] + part[1][e]) + s[e / 2 % LINES].y * (e % 2 ? all.y : all.x);
            }
        }
    }
};

template <typename T, int SPAN, bool CLOSE> static wane_status slices(wane_dev *d, const lines_args &a, bool gated, bool *fits)
{
    using two = nibbles<T, SPAN, CLOSE, 2>;
    using one = nibbles<T, SPAN, CLOSE, 1>;
    if (a.x.rows <= LINES_TOKENS / 2) return gated ? lines_launch<two, 2, 2>(d, a, fits) : lines_launch<two, 1, 2>(d, a, fits);
    return gated ? lines_launch<one, 2, 1>(d, a, fits) : lines_launch<one, 1, 1>(d, a, fits);
}

/* Whether the scales and zeros of an item's line lie on words. */
static bool lie_close(const lines_args &a, int span, int64_t group)
{
    bool close = group == span && a.x.cols % 256 == 0;
    for (int i = 0; i < CUDA_PARTS; i++) {
        const lines_part &p = a.part[i];
        close = close && (uintptr_t)p.scale % 4 == 0 && p.scale_pitch % 4 == 0 && (uintptr_t)p.zero % 4 == 0 && p.zero_pitch % 4 == 0;
    }
    return close;
}

template <typename T> static wane_status choose(wane_dev *d, lines_args a, int64_t group, bool gated, bool *fits)
{
    int span = code_span(group);
    a.per_group = (int)(group / span);
    if (lie_close(a, span, group)) {
        int grid = 2 * 128 / span; /* spans of an item's line: nibbles::GRID */
        a.scale_words = a.full_scale ? grid : grid / 2;
        a.zero_words = !a.zeros ? 0 : a.full_zero ? grid : (grid + 3) / 4;
        return span == 128  ? slices<T, 128, true>(d, a, gated, fits)
               : span == 64 ? slices<T, 64, true>(d, a, gated, fits)
                            : slices<T, 32, true>(d, a, gated, fits);
    }
    return span == 128  ? slices<T, 128, false>(d, a, gated, fits)
           : span == 64 ? slices<T, 64, false>(d, a, gated, fits)
                        : slices<T, 32, false>(d, a, gated, fits);
}

wane_status cuda_few_codes(wane_dev *d, const wane_products *p, const lines_args *a, bool *fits)
{
    int64_t group = p->part[0].q.group;
    return few_type(p) == WANE_BF16 ? choose<__nv_bfloat16>(d, *a, group, p->gated, fits) : choose<__half>(d, *a, group, p->gated, fits);
}
