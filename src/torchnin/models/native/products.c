/* Convolutions, and the gradients of what comes into them, in bfloat16 on matrix units (AMX).
 *
 * Pictures lie in channels-last memory. A tile of what comes in has 16 pixels, of which a 1x1 kernel meets one after the other; of pictures
 * with few channels, all under the kernel is gathered before. Other kernels of stride 1 meet the same pixel of 16 pictures at once, so that
 * nothing is copied, and no zeros are multiplied at the edges (`stacked`). The gradient of what came in is such a product too, with the
 * kernel turned round.
 */

#include "products.h"

#ifdef MATRICES

/* ---- the kernel, as the units want it ---- */

static long first_channel(const Product *product, long step) {
    return product->stacked ? least(step * BLOCK, product->plan.channels - BLOCK) : step * BLOCK;
}

/* SIDE pairs of channels from `k` on for SIDE outputs from `n` on, in rows of outputs. */
static void pack_tile(const Product *product, long tap, long k, long n, uint32_t *packed) {
    const Plan *plan = &product->plan;
    long channels = plan->channels, outputs = plan->of->outputs;
    __m512i rows[SIDE];
    if (product->backward) {
        __mmask16 there = (__mmask16)((1u << least(SIDE, outputs - n)) - 1);
        for (int row = 0; row < SIDE; row++) {
            __m256i pair[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
            for (int which = 0; which < 2; which++) {
                long channel = k + 2 * row + which;
                if (channel < channels)
                    pair[which] = _mm256_maskz_loadu_epi16(there, product->weights + (channel * plan->taps + plan->taps - 1 - tap) * outputs + n);
            }
            rows[row] = _mm512_or_si512(_mm512_cvtepu16_epi32(pair[0]), _mm512_slli_epi32(_mm512_cvtepu16_epi32(pair[1]), 16));
        }
    } else {
        __mmask32 there = (__mmask32)((1ull << least(BLOCK, channels - k)) - 1);
        for (int row = 0; row < SIDE; row++)
            rows[row] = n + row < outputs ? _mm512_maskz_loadu_epi16(there, product->weights + ((n + row) * plan->taps + tap) * channels + k)
                                          : _mm512_setzero_si512();
        transpose(rows);
    }
    for (int row = 0; row < SIDE; row++)
        _mm512_storeu_si512(packed + row * plan->outputs, rows[row]);
}

static void pack(const Product *product, uint32_t *packed) {
    const Plan *plan = &product->plan;
    for (long tap = 0; tap < plan->taps; tap++)
        for (long step = 0; step < product->steps; step++, packed += SIDE * plan->outputs) {
            long k = first_channel(product, step);
            for (long n = 0; n < plan->outputs; n += SIDE)
                pack_tile(product, tap, k, n, packed + n);
            /* What the step before has met counts once. */
            memset(packed, 0, sizeof(uint32_t) * (size_t)((step * BLOCK - k) / 2 * plan->outputs));
        }
}

/* ---- products ---- */

INLINE void add(double *total, __m512 values) {
    _mm512_storeu_pd(total, _mm512_add_pd(_mm512_loadu_pd(total), _mm512_cvtps_pd(_mm512_castps512_ps256(values))));
    _mm512_storeu_pd(total + 8, _mm512_add_pd(_mm512_loadu_pd(total + 8), _mm512_cvtps_pd(_mm512_extractf32x8_ps(values, 1))));
}

INLINE __m512 widened(__m256i halves) { return (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16); }

/* Sums of SIDE pixels, or the `number` that there are, for SIDE outputs, or where `wide` for those of the next tile too, of which there are fewer
 * at the end; `next`: from a pixel to the next in the output, where the first lies at `at`. */
INLINE void finish_as(const Product *product, const float *sums, double *total, long at, long next, long number, long output, int wide, int kind) {
    int relu = product->relu;
    uint16_t *to = product->output + at + output;
    const uint16_t *above = product->above + at + output;
    __mmask32 there = (__mmask32)((1ull << least(wide ? BLOCK : SIDE, product->plan.of->outputs - output)) - 1);
    __m512 zero = _mm512_setzero_ps(), sum = zero, other_sum = zero, square = zero, other_square = zero;
    __m512 bias = kind == PLAIN ? _mm512_loadu_ps(product->bias + output) : zero;
    __m512 other_bias = kind == PLAIN && wide ? _mm512_loadu_ps(product->bias + output + SIDE) : zero;
    for (long k = 0; k < number; k++, to += next, above += next) {
        __m512 values = _mm512_load_ps(sums + k * SIDE), others = wide ? _mm512_load_ps(sums + (SIDE + k) * SIDE) : zero;
        __m512i met = {0};
        if (kind == CUT) {
            met = _mm512_maskz_loadu_epi16(there, above);
            __mmask32 passed = _mm512_test_epi16_mask(met, _mm512_set1_epi16(0x7fff));
            values = _mm512_maskz_mov_ps((__mmask16)passed, values);
            others = _mm512_maskz_mov_ps((__mmask16)(passed >> SIDE), others);
        }
        if (kind == PLAIN) {
            values = _mm512_add_ps(values, bias);
            others = _mm512_add_ps(others, other_bias);
            if (relu) { /* in this order what is no number stays none */
                values = _mm512_max_ps(zero, values);
                others = _mm512_max_ps(zero, others);
            }
        }
        __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(others, values);
        _mm512_mask_storeu_epi16(to, there, rounded);
        if (kind == MEASURED) { /* of what is written, whose squares need no rounding */
            met = rounded;
            values = widened(_mm512_castsi512_si256(rounded));
            if (wide) others = widened(_mm512_extracti64x4_epi64(rounded, 1));
        }
        if (kind != PLAIN) {
            sum = _mm512_add_ps(sum, values);
            square = _mm512_fmadd_ps(values, kind == MEASURED ? values : widened(_mm512_castsi512_si256(met)), square);
        }
        if (kind != PLAIN && wide) {
            other_sum = _mm512_add_ps(other_sum, others);
            other_square = _mm512_fmadd_ps(others, kind == MEASURED ? others : widened(_mm512_extracti64x4_epi64(met, 1)), other_square);
        }
    }
    if (kind == PLAIN) return;
    add(total + output, sum);
    add(total + product->plan.outputs + output, square);
    if (wide) {
        add(total + output + SIDE, other_sum);
        add(total + product->plan.outputs + output + SIDE, other_square);
    }
}

static void finish(const Product *product, const float *sums, double *total, long at, long next, long number, long output, int wide) {
#define AS(kind)                                                                                  \
    if (wide)                                                                                     \
        finish_as(product, sums, total, at, next, number, output, 1, kind);                       \
    else                                                                                          \
        finish_as(product, sums, total, at, next, number, output, 0, kind)
    if (product->kind == PLAIN) {
        AS(PLAIN);
    } else if (product->kind == MEASURED) {
        AS(MEASURED);
    } else {
        AS(CUT);
    }
#undef AS
}

INLINE void begin(void) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* The tiles of sums are rounded and written; see `finish`, for the first row of them and for the second. */
INLINE void end(const Product *product, float *sums, double *totals, const long at[2], long next, const long number[2], long n, int high,
                int wide) {
    int row = SIDE * sizeof(float);
    _tile_stored(0, sums, row);
    if (wide) _tile_stored(1, sums + SIDE * SIDE, row);
    if (high) _tile_stored(2, sums + 2 * SIDE * SIDE, row);
    if (high && wide) _tile_stored(3, sums + 3 * SIDE * SIDE, row);
    finish(product, sums, totals, at[0], next, number[0], n, wide);
    if (high) finish(product, sums + 2 * SIDE * SIDE, totals, at[1], next, number[1], n, wide);
}

/* BLOCK pixels that follow each other, or fewer, for as many outputs. */
INLINE void multiply_pixels(const Product *product, const uint16_t *values, float *sums, double *totals, long pixel, long pixels, long n,
                            int high, int wide) {
    const Plan *plan = &product->plan;
    long outputs = plan->of->outputs, at[2] = {pixel * outputs, (pixel + SIDE) * outputs};
    long number[2] = {least(SIDE, pixels), least(SIDE, pixels - SIDE)};
    begin();
    for (long step = 0; step < product->steps; step++)
        meet(values + step * BLOCK, values + SIDE * plan->inputs + step * BLOCK, (int)plan->inputs * 2,
             product->kernel + step * SIDE * plan->outputs + n, (int)plan->outputs * 4, high, wide);
    end(product, sums, totals, at, outputs, number, n, high, wide);
}

/* One pixel of BLOCK pictures, or fewer, for as many outputs. */
INLINE void multiply_stacked(const Product *product, float *sums, double *totals, long picture, long y, long x, long n, int high, int wide) {
    const Plan *plan = &product->plan;
    const Convolution *of = plan->of;
    long size = of->height * of->width * of->channels, next = plan->rows * plan->columns * of->outputs;
    long first = picture * next + (y * plan->columns + x) * of->outputs, at[2] = {first, first + SIDE * next};
    long number[2] = {least(SIDE, of->pictures - picture), least(SIDE, of->pictures - picture - SIDE)};
    const uint16_t *values = (const uint16_t *)plan->pictures + picture * size;
    begin();
    for (long down = 0; down < of->down; down++) {
        long row = y + down - of->above;
        if (row < 0 || row >= of->height) continue;
        for (long across = 0; across < of->across; across++) {
            long column = x + across - of->beside;
            if (column < 0 || column >= of->width) continue;
            const uint16_t *here = values + (row * of->width + column) * of->channels;
            const uint32_t *kernel = product->kernel + (down * of->across + across) * product->steps * SIDE * plan->outputs + n;
            for (long step = 0; step < product->steps; step++, kernel += SIDE * plan->outputs) {
                long k = first_channel(product, step);
                meet(here + k, here + SIDE * size + k, (int)size * 2, kernel, (int)plan->outputs * 4, high, wide);
            }
        }
    }
    end(product, sums, totals, at, next, number, n, high, wide);
}

void multiply_parts(const Product *product, int thread, long first, long last) {
    const Plan *plan = &product->plan;
    float *sums = (float *)(plan->room + (size_t)thread * plan->bytes);
    uint16_t *padded = (uint16_t *)(sums + 4 * SIDE * SIDE), *own_values = padded + padded_of(plan);
    double *totals = product->sums + 2 * thread * plan->outputs;
    for (long part = first; part < last; part++) {
        long from = part * plan->at_once, number = least(plan->at_once, plan->total - from);
        long start = from * plan->line, pixels = number * plan->line;
        const uint16_t *values = own_values;
        if (plan->of->gathered)
            gather(plan, padded, from, number, own_values);
        else if (plan->of->channels == plan->inputs && pixels % BLOCK == 0)
            values = (const uint16_t *)plan->pictures + start * plan->inputs; /* as they lie */
        else
            copy((const uint16_t *)plan->pictures + start * plan->of->channels, plan->of->channels, own_values, plan->inputs, pixels);
        for (long p = 0; p < pixels; p += BLOCK)
            for (long n = 0; n < plan->outputs; n += BLOCK) {
                int high = p + SIDE < pixels, wide = n + SIDE < plan->outputs;
#define CALL(high, wide) multiply_pixels(product, values + p * plan->inputs, sums, totals, start + p, pixels - p, n, high, wide)
                BY_TILES(CALL);
#undef CALL
            }
    }
}

/* Line by line, for pictures that are met across each other wait long for memory. */
static void fetch(const void *first, long bytes) {
    for (long at = 0; at < bytes; at += 64)
        _mm_prefetch((const char *)first + at, _MM_HINT_T1);
}

/* A part is BLOCK pictures for as many outputs. */
static void multiply_stacks(const Product *product, int thread, long first, long last) {
    const Plan *plan = &product->plan;
    float *sums = (float *)(plan->room + (size_t)thread * plan->bytes);
    double *totals = product->sums + 2 * thread * plan->outputs;
    for (long part = first; part < last; part++) {
        long wides = (plan->outputs + BLOCK - 1) / BLOCK, picture = part / wides * BLOCK, n = part % wides * BLOCK;
        long number = plan->of->pictures - picture;
        int high = number > SIDE, wide = n + SIDE < plan->outputs;
        if (!n || part == first) {
            long size = 2 * plan->of->height * plan->of->width * plan->of->channels;
            fetch((const char *)plan->pictures + picture * size, least(BLOCK, number) * size);
        }
        configure((int)least(SIDE, number), high ? (int)least(SIDE, number - SIDE) : SIDE);
        for (long y = 0; y < plan->rows; y++)
            for (long x = 0; x < plan->columns; x++) {
#define CALL(high, wide) multiply_stacked(product, sums, totals, picture, y, x, n, high, wide)
                BY_TILES(CALL);
#undef CALL
            }
    }
}

int begin_product(Product *product, const float *bias) {
    Plan *plan = &product->plan;
    const Convolution *of = plan->of;
    long threads = of->threads, filled = plan->outputs, laid_out = 0;
    product->stacked = !of->gathered && !is_line(of);
    product->steps = (plan->channels + BLOCK - 1) / BLOCK;
    plan->inputs = product->steps * BLOCK;
    if (product->stacked)
        plan->parts = (of->pictures + BLOCK - 1) / BLOCK * ((filled + BLOCK - 1) / BLOCK);
    else
        laid_out = padded_of(plan) + plan->blocks * BLOCK * plan->inputs;
    plan->bytes = (size_t)whole(4 * 4 * SIDE * SIDE + 2 * laid_out, 64);
    plan->room = aligned((size_t)threads * plan->bytes);
    size_t pairs = sizeof(uint32_t) * (size_t)(plan->taps * product->steps * SIDE * filled);
    size_t sums = sizeof(double) * (size_t)(2 * threads * filled), added = sizeof(float) * (size_t)filled;
    product->room = aligned(pairs + sums + added);
    if (!plan->room || !product->room) return 0;
    memset(plan->room, 0, (size_t)threads * plan->bytes);
    memset(product->room + pairs, 0, sums + added);
    pack(product, (uint32_t *)product->room);
    product->kernel = (const uint32_t *)product->room;
    product->sums = (double *)(product->room + pairs);
    product->bias = (const float *)(product->room + pairs + sums);
    if (bias) memcpy(product->room + pairs + sums, bias, sizeof(float) * (size_t)of->outputs);
    return 1;
}

void end_product(Product *product, double *moments) {
    const Plan *plan = &product->plan;
    long outputs = plan->of->outputs;
    for (long which = 0; product->kind != PLAIN && which < 2; which++)
        for (long n = 0; n < outputs; n++) {
            double *moment = moments + which * outputs + n;
            *moment = 0;
            for (long thread = 0; product->sums && thread < plan->of->threads; thread++)
                *moment += product->sums[(2 * thread + which) * plan->outputs + n];
        }
    free(plan->room);
    free(product->room);
}

static void carry_out_parts(const void *of_product, int thread, long first, long last) {
    const Product *product = of_product;
    if (product->stacked) {
        multiply_stacks(product, thread, first, last);
    } else {
        configure(SIDE, SIDE);
        multiply_parts(product, thread, first, last);
    }
    _tile_release();
}

/* 0, or 1 where memory did not suffice; see `begin_product` and `end_product`. */
static int carry_out(Product *product, const float *bias, double *moments) {
    int begun = begin_product(product, bias);
    if (begun) share(carry_out_parts, product, product->plan.parts, product->plan.of->threads);
    end_product(product, moments);
    return !begun;
}

/* `output`, (pictures, rows, columns, outputs), bfloat16, of a `kernel`, (outputs, down, across, channels), likewise; with a `bias`, float32, if
 * there is one, and ReLU of it if `relu`; or without either with the sums of what came out and of its squares, `moments`, (2, outputs). Where
 * the kernel is larger than 1x1 and nothing is gathered, BLOCK channels or more, an even number. */
int convolve(const Convolution *of, const void *pictures, const uint16_t *kernel, const float *bias, int relu, double *moments, uint16_t *output) {
    Product product = {.plan = plan_for(of), .weights = kernel, .relu = relu, .kind = moments ? MEASURED : PLAIN, .output = output};
    product.plan.pictures = pictures;
    return carry_out(&product, bias, moments);
}

/* The gradient of what came into a convolution of stride 1, (pictures, rows, columns, outputs), from the slopes of what came out, `of` which
 * this is said, with the zeros around them that it takes. `kernel`: (channels, down, across, outputs). If `above` is given, which is what a
 * ReLU made of it, the gradient in front of that ReLU; and its sums over the pixels and those of its products with what is above, (2, outputs).
 * All else bfloat16. */
int input_gradient(const Convolution *of, const void *slopes, const uint16_t *kernel, const uint16_t *above, double *moments, uint16_t *output) {
    Product product = {.plan = plan_for(of), .weights = kernel, .backward = 1, .kind = above ? CUT : PLAIN, .above = above, .output = output};
    product.plan.pictures = slopes;
    return carry_out(&product, NULL, moments);
}

#endif
