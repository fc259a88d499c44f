/* rope.c - the inverse frequencies by which positions turn queries and keys; see config.h. After
 * Transformers' modeling_rope_utils.py (default, linear, llama3, yarn), in float32 as there. */
#include "runtime/model/config.h"

#include <math.h>

/* The dimension whose waves turn so many times in the context that the model was trained on. */
static double yarn_dimension(const wane_config *c, double turns)
{
    double d = (double)c->head_dim;
    return d * log(c->rope_original / (turns * 6.283185307179586)) / (2 * log(c->rope_theta));
}

/* Dimensions that turn often stay, those that turn seldom are stretched, with a ramp between. */
static void yarn_frequencies(const wane_config *c, float *out)
{
    double low = yarn_dimension(c, c->rope_high), high = yarn_dimension(c, c->rope_low);
    if (c->rope_whole) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, (double)c->head_dim - 1);
    if (low == high) high += 0.001;
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        float wave = powf((float)c->rope_theta, (float)(2 * i) / (float)c->head_dim);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float stay = 1.0f - fminf(fmaxf(ramp, 0), 1);
        out[i] = 1.0f / ((float)c->rope_factor * wave) * (1.0f - stay) + 1.0f / wave * stay;
    }
}

void wane_config_frequencies(const wane_config *c, float *out)
{
    const float factor = (float)c->rope_factor, turn = 6.283185307179586f;
    if (c->rope == WANE_ROPE_YARN) {
        yarn_frequencies(c, out);
        return;
    }
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        float f = 1.0f / powf((float)c->rope_theta, (float)(2 * i) / (float)c->head_dim);
        if (c->rope == WANE_ROPE_LINEAR) f /= factor;
        if (c->rope == WANE_ROPE_LLAMA3) {
            /* wave lengths that fit `high` times into the trained context stay, those that fit less
             * than `low` times are stretched by the factor, and between the two both are mixed */
            float original = (float)c->rope_original, low = (float)c->rope_low,
                  high = (float)c->rope_high, wave = turn / f;
            float smooth = (original / wave - low) / (high - low);
            if (wave > original / low)
                f /= factor;
            else if (wave >= original / high)
                f = (1.0f - smooth) * f / factor + smooth * f;
        }
        out[i] = f;
    }
}
