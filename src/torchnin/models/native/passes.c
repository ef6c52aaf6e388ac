/* Passes over pictures that torch makes one by one, for training on a processor: batch normalisation, max pooling, ReLU and dropout in as
 * few as there can be, forward and backward.
 *
 * Pictures lie in channels-last memory, (n, h, w, c), as float32 or bfloat16 (`half`). Pooling takes the largest of windows of 3x3 pixels
 * two apart, which may be cut off at the edges. Computed in float32, summed up in float64. What is no number stays none. The work is
 * shared by the threads of the OpenMP library that torch uses, so that there are not two crews on the same cores. Nothing here knows
 * Python or torch: passes.py hands addresses over.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define LANES 16
#else
#define LANES 8
#endif

#define POOL 3
#define STRIDE 2
#define NOWHERE 255 /* in place of a pixel of its window, for a largest value that ReLU makes zero */
#define CHUNK 128   /* pixels whose values are summed up in float32 */
#define FAR 8       /* biases of so many weights leave of a value in bfloat16 what its gradient needs */

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t I __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));
typedef uint8_t B __attribute__((vector_size(LANES)));

/* ---- what is to be done, and by how many ---- */

typedef struct {
    int32_t half, threads;
    int64_t pictures, height, width, channels;
    int64_t rows, columns; /* of what pooling leaves of a picture; 0: no pooling */
} Shape;

typedef struct {
    Shape shape;
    const void *values, *slopes;
    void *output, *picked; /* `picked`: of each window the value that was the largest once normalised */
    uint8_t *places;
    const float *shift, *scale; /* normalised: value * scale + shift */
    const float *by_slope, *by_value, *level; /* gradient of a value: slope * by_slope + value * by_value + level */
    const float *centre;
    const uint8_t *chances; /* of every window: below `bar` it is dropped, and what is not grows by `factor`; NULL: nothing is dropped */
    int32_t bar;
    float factor;
    int cut;        /* the slopes are in front of ReLU */
    double *sums;   /* (threads, 2, channels) */
    float *scratch; /* (threads, width, channels) */
} Job;

static long pixels_of(const Shape *shape) { return shape->pictures * shape->height * shape->width; }

/* ---- LANES channels of a pixel, or the `rest` that there are ---- */

/* Longer and shorter numbers: compilers make of __builtin_convertvector what takes several times as long. */
#if LANES == 16
INLINE U widen_shorts(H values) { return (U)_mm512_cvtepu16_epi32((__m256i)values); }
INLINE I widen_bytes(B values) { return (I)_mm512_cvtepu8_epi32((__m128i)values); }
INLINE H shorten(U values) { return (H)_mm512_cvtepi32_epi16((__m512i)values); }
INLINE B to_bytes(I values) { return (B)_mm512_cvtepi32_epi8((__m512i)values); }
#elif defined(__AVX2__)
INLINE U widen_shorts(H values) { return (U)_mm256_cvtepu16_epi32((__m128i)values); }
INLINE I widen_bytes(B values) {
    int64_t bits;
    memcpy(&bits, &values, sizeof bits);
    return (I)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bits));
}
INLINE H shorten(U values) {
    __m256i halves = _mm256_packus_epi32((__m256i)values, (__m256i)values);
    return (H)_mm256_castsi256_si128(_mm256_permute4x64_epi64(halves, 0x08));
}
INLINE B to_bytes(I values) {
    H shorts = shorten((U)values);
    int64_t bits = _mm_cvtsi128_si64(_mm_packus_epi16((__m128i)shorts, (__m128i)shorts));
    B bytes;
    memcpy(&bytes, &bits, sizeof bytes);
    return bytes;
}
#else
INLINE U widen_shorts(H values) { return __builtin_convertvector(values, U); }
INLINE I widen_bytes(B values) { return __builtin_convertvector(values, I); }
INLINE H shorten(U values) { return __builtin_convertvector(values, H); }
INLINE B to_bytes(I values) { return __builtin_convertvector(values, B); }
#endif

/* So few that memcpy would be a call, which costs more than all else that is done with them. */
#if LANES == 16
#define FEW(rest) ((__mmask16)((1u << (rest)) - 1))
INLINE H load_shorts(const uint16_t *from, int rest) { return (H)_mm256_maskz_loadu_epi16(FEW(rest), from); }
INLINE V load_floats(const float *from, int rest) { return (V)_mm512_maskz_loadu_ps(FEW(rest), from); }
INLINE void store_shorts(uint16_t *to, H values, int rest) { _mm256_mask_storeu_epi16(to, FEW(rest), (__m256i)values); }
INLINE void store_floats(float *to, V values, int rest) { _mm512_mask_storeu_ps(to, FEW(rest), (__m512)values); }
INLINE B load_bytes(const uint8_t *from, int rest) { return (B)_mm_maskz_loadu_epi8(FEW(rest), from); }
INLINE void store_bytes(uint8_t *to, B values, int rest) { _mm_mask_storeu_epi8(to, FEW(rest), (__m128i)values); }
#else
#define FEW_OF(name, vector, number)                                   \
    INLINE vector load_##name(const number *from, int rest) {          \
        vector values = {0};                                           \
        for (int k = 0; k < rest; k++)                                 \
            values[k] = from[k];                                       \
        return values;                                                 \
    }                                                                  \
    INLINE void store_##name(number *to, vector values, int rest) {    \
        for (int k = 0; k < rest; k++)                                 \
            to[k] = values[k];                                         \
    }
FEW_OF(shorts, H, uint16_t)
FEW_OF(floats, V, float)
FEW_OF(bytes, B, uint8_t)
#endif

INLINE V load(const void *from, long at, int rest, int half) {
    if (half) {
        const uint16_t *first = (const uint16_t *)from + at;
        H bits;
        if (rest == LANES)
            memcpy(&bits, first, sizeof bits);
        else
            bits = load_shorts(first, rest);
        return (V)(widen_shorts(bits) << 16);
    }
    const float *first = (const float *)from + at;
    V values;
    if (rest != LANES)
        return load_floats(first, rest);
    memcpy(&values, first, sizeof values);
    return values;
}

/* To bfloat16: to the nearest, of two that are as near the even one. */
INLINE H rounded(V values) {
#if defined(__AVX512BF16__) && LANES == 16
    return (H)_mm512_cvtneps_pbh((__m512)values);
#else
    U bits = (U)values, number = (U)(values == values);
    U nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return shorten((nearest & number) | (0x7fc0 & ~number));
#endif
}

INLINE void store(void *to, long at, V values, int rest, int half) {
    if (half) {
        H shorter = rounded(values);
        if (rest == LANES)
            memcpy((uint16_t *)to + at, &shorter, sizeof shorter);
        else
            store_shorts((uint16_t *)to + at, shorter, rest);
    } else if (rest == LANES) {
        memcpy((float *)to + at, &values, sizeof values);
    } else {
        store_floats((float *)to + at, values, rest);
    }
}

INLINE I load_places(const uint8_t *from, int rest) {
    B places;
    if (rest == LANES)
        memcpy(&places, from, sizeof places);
    else
        places = load_bytes(from, rest);
    return widen_bytes(places);
}

INLINE void store_places(uint8_t *to, I values, int rest) {
    B places = to_bytes(values);
    if (rest == LANES)
        memcpy(to, &places, sizeof places);
    else
        store_bytes(to, places, rest);
}

INLINE V only(I where, V values) { return (V)((I)values & where); }

INLINE V either(I where, V values, V others) { return (V)(((I)values & where) | ((I)others & ~where)); }

/* `body(c, rest)` for all channels. */
#define EACH_CHANNEL(channels, body)                      \
    do {                                                  \
        long c = 0;                                       \
        for (; c + LANES <= (channels); c += LANES)       \
            body(c, LANES);                               \
        if (c < (channels))                               \
            body(c, (int)((channels) - c));               \
    } while (0)

/* A task for either kind of number, with what depends on the kind decided outside its loops. */
#define TASK(name)                                                              \
    static void name(const void *of_job, int thread, long first, long last) {   \
        const Job *job = of_job;                                                \
        if (job->shape.half)                                                    \
            name##_of(job, thread, first, last, 1);                             \
        else                                                                    \
            name##_of(job, thread, first, last, 0);                             \
    }

/* ---- batch normalisation, forward ---- */

INLINE void measure_of(const Job *job, int thread, long first, long last, int half) {
    long channels = job->shape.channels;
    double *sums = job->sums + 2 * thread * channels, *squares = sums + channels;
    for (long from = first; from < last; from += CHUNK) {
        long to = least(from + CHUNK, last);
#define BODY(c, rest)                                                              \
    {                                                                              \
        /* Apart from the first pixel, so that squares stay small beside sums. */  \
        V centre = load(job->values, c, rest, half), sum = {0}, square = {0};      \
        for (long pixel = from; pixel < to; pixel++) {                             \
            V apart = load(job->values, pixel * channels + c, rest, half) - centre; \
            sum += apart;                                                          \
            square += apart * apart;                                               \
        }                                                                          \
        for (int k = 0; k < rest; k++) {                                           \
            sums[c + k] += sum[k];                                                 \
            squares[c + k] += square[k];                                           \
        }                                                                          \
    }
        EACH_CHANNEL(channels, BODY);
#undef BODY
    }
}
TASK(measure)

/* Last pixels first: they are the ones that the caches still hold. */
INLINE void normalise_pixels_of(const Job *job, int thread, long first, long last, int half) {
    long channels = job->shape.channels;
    (void)thread;
    for (long pixel = last - 1; pixel >= first; pixel--) {
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        V value = load(job->values, pixel * channels + c, rest, half);                                            \
        value = value * load(job->scale, c, rest, 0) + load(job->shift, c, rest, 0);                              \
        store(job->output, pixel * channels + c, only(~(value <= 0), value), rest, half);                         \
    }
        EACH_CHANNEL(channels, BODY);
#undef BODY
    }
}
TASK(normalise_pixels)

#if LANES == 16
#define PAIR (2 * LANES)

/* A window of bfloat16, PAIR channels or the `rest` that there are: compared as whole numbers, which need no widening. Where the scale is below
 * zero, the least value becomes the largest; both zeros count as two numbers. `at`: of the window in what comes out; `corner`: of its first
 * value. */
INLINE void pool_halves(const Job *job, long corner, long at, long high, long wide, long c, long rest) {
    long channels = job->shape.channels;
    __mmask32 there = (__mmask32)((1ull << rest) - 1);
    __m512i magnitude = _mm512_set1_epi16(0x7fff), flip = _mm512_setzero_si512(), greatest = flip, largest = flip, place = flip;
    __m512 scale[2] = {_mm512_set1_ps(1), _mm512_set1_ps(1)}, shift[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, value[2];
    if (job->scale) {
        for (int k = 0; k < 2; k++) {
            __mmask16 own = (__mmask16)(there >> (k * LANES));
            scale[k] = _mm512_maskz_loadu_ps(own, job->scale + c + k * LANES);
            shift[k] = _mm512_maskz_loadu_ps(own, job->shift + c + k * LANES);
        }
        __mmask32 below = _mm512_cmp_ps_mask(scale[0], _mm512_setzero_ps(), _CMP_LT_OQ) |
                          (__mmask32)_mm512_cmp_ps_mask(scale[1], _mm512_setzero_ps(), _CMP_LT_OQ) << LANES;
        flip = _mm512_movm_epi16(below);
    }
    const uint16_t *values = (const uint16_t *)job->values + corner + c;
    for (long y = 0; y < high; y++)
        for (long x = 0; x < wide; x++) {
            __m512i bits = _mm512_maskz_loadu_epi16(there, values + (y * job->shape.width + x) * channels);
            greatest = _mm512_max_epu16(greatest, _mm512_and_si512(bits, magnitude));
            /* bits ^ (sign & magnitude) is in order; and the other way round with all bits flipped. */
            bits = _mm512_xor_si512(_mm512_ternarylogic_epi32(bits, _mm512_srai_epi16(bits, 15), magnitude, 0x78), flip);
            __mmask32 larger = y + x == 0 ? ~(__mmask32)0 : _mm512_cmpgt_epi16_mask(bits, largest);
            largest = _mm512_mask_mov_epi16(largest, larger, bits);
            place = _mm512_mask_mov_epi16(place, larger, _mm512_set1_epi16((short)(POOL * y + x)));
        }
    largest = _mm512_xor_si512(largest, flip);
    largest = _mm512_ternarylogic_epi32(largest, _mm512_srai_epi16(largest, 15), magnitude, 0x78);
    largest = _mm512_mask_mov_epi16(largest, _mm512_cmpgt_epu16_mask(greatest, _mm512_set1_epi16(0x7f80)), _mm512_set1_epi16(0x7fc0));
    __mmask32 dropped = 0, zero = 0;
    if (job->chances)
        dropped = _mm256_mask_cmplt_epu8_mask(there, _mm256_maskz_loadu_epi8(there, job->chances + at + c), _mm256_set1_epi8((char)job->bar));
    for (int k = 0; k < 2; k++) {
        __m256i half = k ? _mm512_extracti64x4_epi64(largest, 1) : _mm512_castsi512_si256(largest);
        value[k] = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
        value[k] = _mm512_fmadd_ps(value[k], scale[k], shift[k]);
        __mmask16 none = _mm512_cmp_ps_mask(value[k], _mm512_setzero_ps(), _CMP_LE_OQ);
        value[k] = _mm512_maskz_mov_ps((__mmask16)~none, value[k]);
        zero |= (__mmask32)none << (k * LANES);
        if (job->chances) /* what is no number stays none */
            value[k] = _mm512_mul_ps(value[k], _mm512_maskz_mov_ps((__mmask16)(~dropped >> (k * LANES)), _mm512_set1_ps(job->factor)));
    }
    place = _mm512_mask_mov_epi16(place, zero | dropped, _mm512_set1_epi16(NOWHERE));
    __m512i output = _mm512_inserti64x4(_mm512_castsi256_si512((__m256i)rounded((V)value[0])), (__m256i)rounded((V)value[1]), 1);
    _mm512_mask_storeu_epi16((uint16_t *)job->output + at + c, there, output);
    _mm256_mask_storeu_epi8(job->places + at + c, there, _mm512_cvtepi16_epi8(place));
    if (job->scale) _mm512_mask_storeu_epi16((uint16_t *)job->picked + at + c, there, largest);
}

#endif

/* Rows of what pooling leaves; where there is a `scale`, of normalised values. */
INLINE void pool_rows_of(const Job *job, int thread, long first, long last, int half) {
    const Shape *shape = &job->shape;
    long channels = shape->channels;
    (void)thread;
    for (long row = last - 1; row >= first; row--) {
        long picture = row / shape->rows, top = row % shape->rows * STRIDE;
        long high = least(POOL, shape->height - top);
        for (long column = 0; column < shape->columns; column++) {
            long left = column * STRIDE, wide = least(POOL, shape->width - left);
            long corner = ((picture * shape->height + top) * shape->width + left) * channels;
            long at = (row * shape->columns + column) * channels;
#if LANES == 16
            if (half) {
                int whole = high == POOL && wide == POOL; /* numbers that the compiler knows */
                for (long c = 0; c < channels; c += PAIR)
                    if (whole && c + PAIR <= channels)
                        pool_halves(job, corner, at, POOL, POOL, c, PAIR);
                    else
                        pool_halves(job, corner, at, high, wide, c, least(PAIR, channels - c));
                continue;
            }
#endif
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        V scale = {0}, shift = {0}, largest = {0}, picked = {0};                                                  \
        I place = {0};                                                                                            \
        if (job->scale)                                                                                           \
            scale = load(job->scale, c, rest, 0), shift = load(job->shift, c, rest, 0);                           \
        for (long y = 0; y < high; y++)                                                                           \
            for (long x = 0; x < wide; x++) {                                                                     \
                V value = load(job->values, corner + (y * shape->width + x) * channels + c, rest, half);          \
                V original = value;                                                                               \
                if (job->scale)                                                                                   \
                    value = value * scale + shift;                                                                \
                I larger = (value > largest) | (value != value) | ((I){0} - (y + x == 0));                        \
                largest = either(larger, value, largest);                                                         \
                if (job->scale)                                                                                   \
                    picked = either(larger, original, picked);                                                    \
                place = (place & ~larger) | (((I){0} + (int32_t)(POOL * y + x)) & larger);                        \
            }                                                                                                     \
        I zero = largest <= 0;                                                                                    \
        largest = only(~zero, largest);                                                                           \
        if (job->chances) {                                                                                       \
            I dropped = load_places(job->chances + at + c, rest) < job->bar;                                      \
            largest *= only(~dropped, (V){0} + job->factor); /* what is no number stays none */                   \
            zero |= dropped;                                                                                      \
        }                                                                                                         \
        place |= zero & NOWHERE;                                                                                  \
        store(job->output, at + c, largest, rest, half);                                                          \
        store_places(job->places + at + c, place, rest);                                                          \
        if (job->scale)                                                                                           \
            store(job->picked, at + c, picked, rest, half);                                                       \
    }
            EACH_CHANNEL(channels, BODY);
#undef BODY
        }
    }
}
TASK(pool_rows)

/* ---- backward ---- */

/* The slopes of a row of pictures, from those of what pooling left: each goes to the pixel that was the largest of its window. */
INLINE void unpool_row(const Job *job, float *slopes, long row, int half) {
    const Shape *shape = &job->shape;
    long channels = shape->channels, y = row % shape->height, width = shape->width;
    long first = y < POOL ? 0 : (y - POOL + STRIDE) / STRIDE, last = least(y / STRIDE, shape->rows - 1);
    long windows = row / shape->height * shape->rows * shape->columns * channels;
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        V carried = {0}; /* what the window before has for the pixel that it shares with this one */              \
        for (long column = 0; column < shape->columns; column++) {                                                \
            V one = carried, two = {0}, three = {0};                                                              \
            for (long window = first; window <= last; window++) {                                                 \
                long at = windows + (window * shape->columns + column) * channels + c;                            \
                I place = load_places(job->places + at, rest) - (int32_t)(POOL * (y - window * STRIDE));          \
                V slope = load(job->slopes, at, rest, half);                                                      \
                one += only(place == 0, slope);                                                                   \
                two += only(place == 1, slope);                                                                   \
                three += only(place == 2, slope);                                                                 \
            }                                                                                                     \
            store(slopes, column * STRIDE * channels + c, one, rest, 0);                                          \
            if (column * STRIDE + 1 < width)                                                                      \
                store(slopes, (column * STRIDE + 1) * channels + c, two, rest, 0);                                \
            carried = three;                                                                                      \
        }                                                                                                         \
        for (long x = shape->columns * STRIDE; x < width; x++, carried = (V){0})                                  \
            store(slopes, x * channels + c, carried, rest, 0);                                                    \
    }
    EACH_CHANNEL(channels, BODY);
#undef BODY
}

/* Sums of the slopes behind ReLU, and of them times the values, of some pixels; `pooled`: of windows, from the values that were picked. */
INLINE void sum_slopes(const Job *job, int thread, long first, long last, int half, int pooled) {
    long channels = job->shape.channels;
    double *sums = job->sums + 2 * thread * channels, *products = sums + channels;
    for (long from = first; from < last; from += CHUNK) {
        long to = least(from + CHUNK, last);
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        V scale = load(job->scale, c, rest, 0), shift = load(job->shift, c, rest, 0);                             \
        V centre = load(job->centre, c, rest, 0), sum = {0}, product = {0};                                       \
        for (long pixel = from; pixel < to; pixel++) {                                                            \
            long at = pixel * channels + c;                                                                       \
            V value = load(pooled ? job->picked : job->values, at, rest, half), slope = load(job->slopes, at, rest, half); \
            I zero = pooled ? load_places(job->places + at, rest) == NOWHERE : value * scale + shift <= 0;        \
            slope = only(~zero, slope);                                                                           \
            sum += slope;                                                                                         \
            product += slope * (value - centre);                                                                  \
        }                                                                                                         \
        for (int k = 0; k < rest; k++) {                                                                          \
            sums[c + k] += sum[k];                                                                                \
            products[c + k] += product[k];                                                                        \
        }                                                                                                         \
    }
        EACH_CHANNEL(channels, BODY);
#undef BODY
    }
}

/* The gradient of some pixels' values behind normalisation; `cut`: the slopes are in front of ReLU, else behind it. */
INLINE void descend(const Job *job, const void *slopes, long values_at, long slopes_at, long pixels, int half, int slopes_half, int cut) {
    long channels = job->shape.channels;
    for (long pixel = pixels - 1; pixel >= 0; pixel--) {
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        long at = (values_at + pixel) * channels + c;                                                             \
        V value = load(job->values, at, rest, half);                                                              \
        V slope = load(slopes, (slopes_at + pixel) * channels + c, rest, slopes_half);                            \
        if (!cut) {                                                                                               \
            V scale = load(job->scale, c, rest, 0), shift = load(job->shift, c, rest, 0);                         \
            slope = only(~(value * scale + shift <= 0), slope);                                                   \
        }                                                                                                         \
        V by_slope = load(job->by_slope, c, rest, 0), by_value = load(job->by_value, c, rest, 0);                 \
        V gradient = slope * by_slope + (value * by_value + load(job->level, c, rest, 0));                        \
        store(job->output, at, gradient, rest, half);                                                             \
    }
        EACH_CHANNEL(channels, BODY);
#undef BODY
    }
}

INLINE void sum_pixels_of(const Job *job, int thread, long first, long last, int half) { sum_slopes(job, thread, first, last, half, 0); }
TASK(sum_pixels)

INLINE void sum_windows_of(const Job *job, int thread, long first, long last, int half) { sum_slopes(job, thread, first, last, half, 1); }
TASK(sum_windows)

INLINE void descend_pixels_of(const Job *job, int thread, long first, long last, int half) {
    (void)thread;
    if (job->cut)
        descend(job, job->slopes, first, first, last - first, half, half, 1);
    else
        descend(job, job->slopes, first, first, last - first, half, half, 0);
}
TASK(descend_pixels)

INLINE void descend_rows_of(const Job *job, int thread, long first, long last, int half) {
    float *slopes = job->scratch + thread * job->shape.width * job->shape.channels;
    for (long row = last - 1; row >= first; row--) {
        unpool_row(job, slopes, row, half);
        descend(job, slopes, row * job->shape.width, 0, job->shape.width, half, 0, 1);
    }
}
TASK(descend_rows)

/* Pooling alone. */
INLINE void unpool_rows_of(const Job *job, int thread, long first, long last, int half) {
    long values = job->shape.width * job->shape.channels;
    float *slopes = job->scratch + thread * values;
    for (long row = first; row < last; row++) {
        unpool_row(job, slopes, row, half);
#define BODY(c, rest) store(job->output, row * values + c, load(slopes, c, rest, 0) * job->factor, rest, half)
        EACH_CHANNEL(values, BODY);
#undef BODY
    }
}
TASK(unpool_rows)

/* ReLU alone: the slopes where its output is not zero, and their sums. */
INLINE void cut_pixels_of(const Job *job, int thread, long first, long last, int half) {
    long channels = job->shape.channels;
    double *sums = job->sums + 2 * thread * channels;
    for (long from = first; from < last; from += CHUNK) {
        long to = least(from + CHUNK, last);
#define BODY(c, rest)                                                                                             \
    {                                                                                                             \
        V sum = {0};                                                                                              \
        for (long pixel = from; pixel < to; pixel++) {                                                            \
            long at = pixel * channels + c;                                                                       \
            V slope = only(~(load(job->values, at, rest, half) <= 0), load(job->slopes, at, rest, half));         \
            store(job->output, at, slope, rest, half);                                                            \
            sum += slope;                                                                                         \
        }                                                                                                         \
        for (int k = 0; k < rest; k++)                                                                            \
            sums[c + k] += sum[k];                                                                                \
    }
        EACH_CHANNEL(channels, BODY);
#undef BODY
    }
}
TASK(cut_pixels)

/* ---- what passes.py calls; 0, or 1 where memory did not suffice ---- */

typedef struct {
    double *sums;
    float *factors; /* (5, channels) */
    float *scratch;
} Room;

static int take_room(Room *room, const Shape *shape) {
    size_t threads = (size_t)shape->threads, channels = (size_t)shape->channels;
    room->sums = calloc(threads * 2 * channels, sizeof(double));
    room->factors = aligned(5 * channels * sizeof(float));
    room->scratch = shape->rows ? aligned(threads * (size_t)shape->width * channels * sizeof(float)) : NULL;
    return room->sums && room->factors && (room->scratch || !shape->rows);
}

static void give_room(Room *room) {
    free(room->sums);
    free(room->factors);
    free(room->scratch);
}

static double total_of(const Room *room, const Shape *shape, long which, long channel) {
    double total = 0;
    for (long thread = 0; thread < shape->threads; thread++)
        total += room->sums[(2 * thread + which) * shape->channels + channel];
    return total;
}

static void set_normalisation(const Shape *shape, const float *weight, const float *bias, const float *mean, const float *inverse, float *factors) {
    for (long c = 0; c < shape->channels; c++) {
        factors[c] = weight[c] * inverse[c];
        factors[shape->channels + c] = bias[c] - mean[c] * factors[c];
    }
}

static float first_value(const void *values, long at, int half) {
    if (!half)
        return ((const float *)values)[at];
    uint32_t bits = (uint32_t)((const uint16_t *)values)[at] << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* ReLU of the normalised pictures, pooled before it where there are `rows`; mean and one over the deviation are left for the way back, and
 * of windows what was picked and where. `moments`, sums of the values and of their squares, (2, channels), may be known already, or NULL. */
int normalise(const Shape *shape, const void *values, void *output, uint8_t *places, void *picked, const double *moments, const float *weight,
              const float *bias, float *running_mean, float *running_variance, double momentum, double epsilon, float *mean, float *inverse) {
    Room room;
    if (!take_room(&room, shape)) {
        give_room(&room);
        return 1;
    }
    long channels = shape->channels, pixels = pixels_of(shape);
    Job job = {.shape = *shape, .values = values, .output = output, .places = places, .picked = picked, .sums = room.sums};
    if (!moments) share(measure, &job, pixels, shape->threads);
    for (long c = 0; c < channels; c++) {
        double centre = moments ? 0 : first_value(values, c, shape->half);
        double apart = (moments ? moments[c] : total_of(&room, shape, 0, c)) / pixels;
        double variance = (moments ? moments[channels + c] : total_of(&room, shape, 1, c)) / pixels - apart * apart;
        variance = variance < 0 ? 0 : variance;
        mean[c] = (float)(centre + apart);
        inverse[c] = (float)(1 / sqrt(variance + epsilon));
        if (running_mean) {
            double unbiased = variance * pixels / (pixels - 1);
            running_mean[c] = (float)((1 - momentum) * running_mean[c] + momentum * mean[c]);
            running_variance[c] = (float)((1 - momentum) * running_variance[c] + momentum * unbiased);
        }
    }
    set_normalisation(shape, weight, bias, mean, inverse, room.factors);
    job.scale = room.factors;
    job.shift = room.factors + channels;
    if (shape->rows)
        share(pool_rows, &job, shape->pictures * shape->rows, shape->threads);
    else
        share(normalise_pixels, &job, pixels, shape->threads);
    give_room(&room);
    return 0;
}

/* Whether the normalised values are known from what ReLU made of them, (output - bias) / weight, though that was rounded. */
static int are_told(const float *weight, const float *bias, long channels) {
    for (long c = 0; c < channels; c++)
        if (weight[c] == 0 || !(fabsf(bias[c]) <= FAR * fabsf(weight[c]))) return 0;
    return 1;
}

/* `cut`: where the slopes are in front of ReLU already, their sums and those of their products with the output, (2, channels); else NULL. */
int normalise_backward(const Shape *shape, const void *values, const void *slopes, const uint8_t *places, const void *picked, const double *cut,
                       void *output, const float *weight, const float *bias, const float *mean, const float *inverse, float *of_weight,
                       float *of_bias) {
    Room room;
    if (!take_room(&room, shape)) {
        give_room(&room);
        return 1;
    }
    long channels = shape->channels, pixels = pixels_of(shape), rows = shape->pictures * shape->height;
    float *factors = room.factors;
    set_normalisation(shape, weight, bias, mean, inverse, factors);
    Job job = {.shape = *shape, .values = values, .slopes = slopes, .output = output, .places = (uint8_t *)places, .picked = (void *)picked,
               .sums = room.sums, .scratch = room.scratch, .scale = factors, .shift = factors + channels, .centre = mean, .cut = cut != NULL,
               .by_slope = factors + 2 * channels, .by_value = factors + 3 * channels, .level = factors + 4 * channels};
    int told = cut && are_told(weight, bias, channels);
    if (shape->rows)
        share(sum_windows, &job, shape->pictures * shape->rows * shape->columns, shape->threads);
    else if (!told)
        share(sum_pixels, &job, pixels, shape->threads);
    for (long c = 0; c < channels; c++) {
        double sum = told ? cut[c] : total_of(&room, shape, 0, c);
        double product = told ? (cut[channels + c] - bias[c] * sum) / weight[c] : total_of(&room, shape, 1, c) * inverse[c];
        double by_slope = (double)weight[c] * inverse[c], by_value = -by_slope * inverse[c] * product / pixels;
        of_bias[c] = (float)sum;
        of_weight[c] = (float)product;
        factors[2 * channels + c] = (float)by_slope;
        factors[3 * channels + c] = (float)by_value;
        factors[4 * channels + c] = (float)(-by_slope * sum / pixels - by_value * mean[c]);
    }
    if (shape->rows)
        share(descend_rows, &job, rows, shape->threads);
    else
        share(descend_pixels, &job, pixels, shape->threads);
    give_room(&room);
    return 0;
}

/* ReLU of the largest of each window, and dropout behind it where there are `chances`, a byte for each. */
int pool(const Shape *shape, const void *values, const uint8_t *chances, int32_t bar, double factor, void *output, uint8_t *places) {
    Job job = {.shape = *shape, .values = values, .output = output, .places = places, .chances = chances, .bar = bar, .factor = (float)factor};
    share(pool_rows, &job, shape->pictures * shape->rows, shape->threads);
    return 0;
}

int pool_backward(const Shape *shape, const void *slopes, const uint8_t *places, double factor, void *output) {
    Room room;
    int taken = take_room(&room, shape);
    if (taken) {
        Job job = {.shape = *shape, .slopes = slopes, .output = output, .places = (uint8_t *)places, .scratch = room.scratch,
                   .factor = (float)factor};
        share(unpool_rows, &job, shape->pictures * shape->height, shape->threads);
    }
    give_room(&room);
    return !taken;
}

/* The gradient in front of a ReLU, from its output and the gradient behind it; and its sum over the pixels, which a bias there has. */
int relu_backward(const Shape *shape, const void *values, const void *slopes, void *output, float *of_bias) {
    Room room;
    int taken = take_room(&room, shape);
    if (taken) {
        Job job = {.shape = *shape, .values = values, .slopes = slopes, .output = output, .sums = room.sums};
        share(cut_pixels, &job, pixels_of(shape), shape->threads);
        for (long c = 0; c < shape->channels; c++)
            of_bias[c] = (float)total_of(&room, shape, 0, c);
    }
    give_room(&room);
    return !taken;
}
