/* The gradient of a convolution's weights, in bfloat16 on matrix units (AMX): for every tap of the kernel and every pixel, the product of
 * what came in with the slope of what came out; and that of its bias, the sum of the slopes.
 *
 * Pictures and slopes lie in channels-last memory. Of each part of the pictures the slopes are turned round once, so that the pixels of a
 * channel lie side by side, and what came in is paired pixel by pixel, as the units want them. Padded pictures are laid out as one long
 * line in which every tap is a distance; where that is odd, the pairs are other ones. Added up in float32.
 *
 * Of pictures with few channels, all that the kernel meets at a pixel is laid out as the channels of one (`gathered`), whatever the stride;
 * so is the convolution itself computed then.
 */

#include "crew.h"

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* as GCC and as Clang say it */

#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SIDE 16  /* channels of a tile, and pairs of pixels */
#define BLOCK 32 /* pixels of a tile */
#define PART 512 /* pixels that are laid out at once, about: of small pictures so many together */
#define MOST 1024 /* of large ones no more */

typedef struct {
    int32_t threads;
    int64_t pictures, height, width, channels, outputs; /* of what came in, and how many channels came out */
    int64_t down, across, above, beside;                /* taps, and zeros on each side */
    int64_t stride;                                     /* 1 where nothing is gathered */
    int32_t gathered, half;                             /* `half`: the pictures are bfloat16; only gathered ones may be float32 */
} Convolution;

typedef struct {
    const Convolution *of;
    const void *pictures;
    const uint16_t *slopes;
    long width, rows, columns, line; /* from one row of the long line to the next; of what came out; from one picture to the next */
    long strips, strip;              /* of a picture that is large, so many; rows of what came out in each */
    long total, at_once;             /* pictures, strips or gathered rows of them, or pixels of a line; so many are a part */
    long parts, blocks;              /* so many of these; tiles of pixels of each */
    long taps, channels;             /* of a pixel as it is laid out, which has one tap where all under the kernel is gathered */
    long inputs, outputs;            /* channels, filled up to whole tiles */
    size_t bytes;                    /* of a thread's room */
    char *room;
    float *sums;       /* (threads, taps, outputs / SIDE, inputs / SIDE, SIDE, SIDE) */
    float *slope_sums; /* (threads, outputs, SIDE), to be added up */
} Plan;

typedef struct {
    uint16_t *padded;                  /* rows under the kernel, where they are gathered */
    uint16_t *own_values, *own_slopes; /* in a long line */
    const uint16_t *values, *slopes;   /* these, or the pictures as they lie */
    uint32_t *pairs[2];        /* from even and from odd pixels on: (pixels / 2, inputs) */
    uint16_t *turned;          /* (blocks, outputs / SIDE, SIDE, BLOCK) */
} Room;

/* Linux gives a process the use of the tiles only when it is asked. */
int matrices(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static long whole(long number, long of) { return (number + of - 1) / of * of; }

static long most(long one, long other) { return one > other ? one : other; }

static int is_line(const Convolution *of) { return of->down == 1 && of->across == 1 && !of->above && !of->beside && !of->gathered; }

static void configure(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        tiles.bytes[tile] = 64;
        tiles.rows[tile] = SIDE;
    }
    _tile_loadconfig(&tiles);
}

/* Pixels further on, pairs of two that follow each other, of all channels. */
static void pair(const uint16_t *values, uint32_t *pairs, long pixels, long channels) {
    for (long pixel = 0; pixel + 1 < pixels; pixel += 2)
        for (long c = 0; c < channels; c += SIDE) {
            __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values + pixel * channels + c)));
            __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values + (pixel + 1) * channels + c)));
            _mm512_storeu_si512(pairs + pixel / 2 * channels + c, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
        }
}

/* BLOCK pixels of SIDE channels, the pixels of a channel side by side; and what they add up to is added to `sums`, (SIDE, SIDE). */
static void turn(const uint16_t *slopes, long channels, uint16_t *turned, float *sums) {
    __m512i a[SIDE], b[SIDE];
    for (int k = 0; k < SIDE; k++) {
        const uint16_t *here = slopes + 2 * k * channels;
        __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)here));
        __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(here + channels)));
        a[k] = _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
    }
    /* A matrix of 16x16 pairs: in squares of two, then of four, then of those. */
    for (int k = 0; k < SIDE; k += 2) {
        b[k] = _mm512_unpacklo_epi32(a[k], a[k + 1]);
        b[k + 1] = _mm512_unpackhi_epi32(a[k], a[k + 1]);
    }
    for (int k = 0; k < SIDE; k += 4) {
        a[k] = _mm512_unpacklo_epi64(b[k], b[k + 2]);
        a[k + 1] = _mm512_unpackhi_epi64(b[k], b[k + 2]);
        a[k + 2] = _mm512_unpacklo_epi64(b[k + 1], b[k + 3]);
        a[k + 3] = _mm512_unpackhi_epi64(b[k + 1], b[k + 3]);
    }
    for (int k = 0; k < 4; k++) {
        __m512i even = _mm512_shuffle_i32x4(a[k], a[k + 4], 0x88), odd = _mm512_shuffle_i32x4(a[k], a[k + 4], 0xdd);
        __m512i later = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0x88), last = _mm512_shuffle_i32x4(a[k + 8], a[k + 12], 0xdd);
        _mm512_storeu_si512(turned + k * BLOCK, _mm512_shuffle_i32x4(even, later, 0x88));
        _mm512_storeu_si512(turned + (k + 4) * BLOCK, _mm512_shuffle_i32x4(odd, last, 0x88));
        _mm512_storeu_si512(turned + (k + 8) * BLOCK, _mm512_shuffle_i32x4(even, later, 0xdd));
        _mm512_storeu_si512(turned + (k + 12) * BLOCK, _mm512_shuffle_i32x4(odd, last, 0xdd));
    }
    __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int k = 0; k < SIDE; k++) {
        __m512bh pixels = (__m512bh)_mm512_loadu_si512(turned + k * BLOCK);
        _mm512_store_ps(sums + k * SIDE, _mm512_dpbf16_ps(_mm512_load_ps(sums + k * SIDE), pixels, ones));
    }
}

/* Pixels of some channels into a line whose pixels have as many or more, the rest of them zero. */
static void copy(const uint16_t *from, long channels, uint16_t *to, long filled, long pixels) {
    if (channels == filled) {
        memcpy(to, from, sizeof(uint16_t) * (size_t)(pixels * channels));
        return;
    }
    for (long pixel = 0; pixel < pixels; pixel++)
        memcpy(to + pixel * filled, from + pixel * channels, sizeof(uint16_t) * (size_t)channels);
}

static void clear(uint16_t *line, long channels, long pixels) { memset(line, 0, sizeof(uint16_t) * (size_t)(channels * pixels)); }

/* Rows of a picture from `top` of what came out on: slopes, and the values under the kernel; what lies between is zero since the beginning. */
static void lay_out_rows(const Plan *plan, const Room *room, long picture, long top, long rows, long here) {
    const Convolution *of = plan->of;
    const uint16_t *values = (const uint16_t *)plan->pictures + picture * of->height * of->width * of->channels;
    const uint16_t *slopes = plan->slopes + picture * plan->rows * plan->columns * of->outputs;
    for (long y = 0; y < rows + of->down - 1; y++) {
        long from = top + y - of->above;
        uint16_t *row = room->own_values + (here + y * plan->width + of->beside) * plan->inputs;
        if (from >= 0 && from < of->height)
            copy(values + from * of->width * of->channels, of->channels, row, plan->inputs, of->width);
        else if (plan->strips > 1) /* of the strip before */
            clear(row, plan->inputs, of->width);
    }
    for (long y = 0; y < rows; y++)
        copy(slopes + (top + y) * plan->columns * of->outputs, of->outputs,
             room->own_slopes + (here + y * plan->width) * plan->outputs, plan->outputs, plan->columns);
}

/* A row of a picture between zeros, which are there already. */
static void pad(const Convolution *of, const void *pictures, long from, uint16_t *row) {
    long values = of->width * of->channels;
    if (of->half) {
        memcpy(row, (const uint16_t *)pictures + from * values, sizeof(uint16_t) * (size_t)values);
        return;
    }
    const float *first = (const float *)pictures + from * values;
    for (long k = 0; k < values; k += SIDE) {
        __mmask16 there = (__mmask16)((1u << least(SIDE, values - k)) - 1);
        _mm256_mask_storeu_epi16(row + k, there, (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(there, first + k)));
    }
}

/* Of so many rows of what comes out, counted through all pictures, all values under the kernel, pixel by pixel: (rows * columns, inputs). */
static void gather(const Plan *plan, uint16_t *padded, long first, long number, uint16_t *gathered) {
    const Convolution *of = plan->of;
    long edge = of->beside * of->channels, length = plan->width * of->channels, run = of->across * of->channels;
    long columns = plan->columns, inputs = plan->inputs, apart = of->stride * of->channels;
    __mmask32 taps = (__mmask32)((1ull << run) - 1);
    for (long row = first; row < first + number; row++) {
        long picture = row / plan->rows, top = row % plan->rows * of->stride - of->above;
        for (long y = 0; y < of->down; y++) {
            uint16_t *here = padded + y * length + edge;
            if (top + y >= 0 && top + y < of->height)
                pad(of, plan->pictures, picture * of->height + top + y, here);
            else
                clear(here, of->channels, of->width);
        }
        for (long y = 0; y < of->down; y++) {
            const uint16_t *from = padded + y * length;
            uint16_t *to = gathered + y * run;
            for (long x = 0; x < columns; x++, from += apart, to += inputs)
                _mm512_mask_storeu_epi16(to, taps, _mm512_maskz_loadu_epi16(taps, from));
        }
        gathered += columns * inputs;
    }
}

static void lay_out(const Plan *plan, Room *room, long part) {
    const Convolution *of = plan->of;
    long first = part * plan->at_once, number = least(plan->at_once, plan->total - first), filled = number * plan->line;
    room->values = room->own_values;
    room->slopes = room->own_slopes;
    if (is_line(of)) {
        if (number == plan->blocks * BLOCK && of->channels == plan->inputs && of->outputs == plan->outputs) {
            room->values = (const uint16_t *)plan->pictures + first * of->channels; /* as they lie */
            room->slopes = plan->slopes + first * of->outputs;
            return;
        }
        copy((const uint16_t *)plan->pictures + first * of->channels, of->channels, room->own_values, plan->inputs, number);
        copy(plan->slopes + first * of->outputs, of->outputs, room->own_slopes, plan->outputs, number);
    } else if (of->gathered) {
        gather(plan, room->padded, first, number, room->own_values);
        copy(plan->slopes + first * plan->columns * of->outputs, of->outputs, room->own_slopes, plan->outputs, filled);
    } else if (plan->strips > 1) {
        long top = part % plan->strips * plan->strip, rows = least(plan->strip, plan->rows - top);
        lay_out_rows(plan, room, part / plan->strips, top, rows, 0);
        filled = rows * plan->width;
    } else {
        for (long picture = 0; picture < number; picture++)
            lay_out_rows(plan, room, first + picture, 0, plan->rows, picture * plan->line);
    }
    /* The last part has fewer. */
    clear(room->own_slopes + filled * plan->outputs, plan->outputs, plan->blocks * BLOCK - filled);
}

/* Two by two tiles of sums, or fewer, over all pixels of a part. */
INLINE void add_up(const uint16_t *turned, const uint32_t *pairs, float *sums, long blocks, long outputs, long inputs, int high, int wide) {
    long next = inputs / SIDE * SIDE * SIDE; /* from a tile of sums to the one for the next outputs */
    int row = SIDE * sizeof(float), step = (int)inputs * 4;
    _tile_loadd(0, sums, row);
    if (wide > 1) _tile_loadd(1, sums + SIDE * SIDE, row);
    if (high > 1) _tile_loadd(2, sums + next, row);
    if (high > 1 && wide > 1) _tile_loadd(3, sums + next + SIDE * SIDE, row);
    for (long block = 0; block < blocks; block++) {
        _tile_loadd(4, turned, row);
        _tile_loadd(6, pairs, step);
        _tile_dpbf16ps(0, 4, 6);
        if (wide > 1) {
            _tile_loadd(7, pairs + SIDE, step);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (high > 1) {
            _tile_loadd(5, turned + SIDE * BLOCK, row);
            _tile_dpbf16ps(2, 5, 6);
            if (wide > 1) _tile_dpbf16ps(3, 5, 7);
        }
        turned += outputs * BLOCK;
        pairs += SIDE * inputs;
    }
    _tile_stored(0, sums, row);
    if (wide > 1) _tile_stored(1, sums + SIDE * SIDE, row);
    if (high > 1) _tile_stored(2, sums + next, row);
    if (high > 1 && wide > 1) _tile_stored(3, sums + next + SIDE * SIDE, row);
}

static void add_up_part(const Plan *plan, const Room *room, float *sums) {
    long inputs = plan->inputs, outputs = plan->outputs, blocks = plan->blocks;
    for (long tap = 0; tap < plan->taps; tap++) {
        long away = tap / plan->of->across * plan->width + tap % plan->of->across;
        const uint32_t *pairs = room->pairs[away % 2] + away / 2 * inputs;
        for (long n = 0; n < outputs; n += 2 * SIDE)
            for (long c = 0; c < inputs; c += 2 * SIDE) {
                float *here = sums + ((tap * outputs + n) * inputs + c * SIDE);
                const uint16_t *turned = room->turned + n * BLOCK;
                int high = n + SIDE < outputs, wide = c + SIDE < inputs;
                if (high && wide)
                    add_up(turned, pairs + c, here, blocks, outputs, inputs, 2, 2);
                else if (high)
                    add_up(turned, pairs + c, here, blocks, outputs, inputs, 2, 1);
                else if (wide)
                    add_up(turned, pairs + c, here, blocks, outputs, inputs, 1, 2);
                else
                    add_up(turned, pairs + c, here, blocks, outputs, inputs, 1, 1);
            }
    }
}

/* Of what is laid out, the pixels that the last tap is away. */
static long reach_of(const Plan *plan) { return plan->taps > 1 ? (plan->of->down - 1) * plan->width + plan->of->across - 1 : 0; }

/* How the pictures are parted and laid out. */
static Plan plan_for(const Convolution *of) {
    Plan plan = {.of = of, .taps = of->down * of->across, .channels = of->channels, .outputs = whole(of->outputs, SIDE)};
    plan.rows = (of->height + 2 * of->above - of->down) / of->stride + 1;
    plan.columns = (of->width + 2 * of->beside - of->across) / of->stride + 1;
    plan.strips = 1;
    if (of->gathered) {
        plan.channels *= plan.taps;
        plan.taps = 1;
        plan.width = of->width + 2 * of->beside;
        plan.line = plan.columns;
        plan.total = of->pictures * plan.rows;
    } else if (is_line(of)) {
        plan.line = 1;
        plan.total = of->pictures * of->height * of->width;
    } else {
        /* The zeros behind a row are those before the next, and those below a picture those above the next. */
        plan.width = most(of->width + of->beside, plan.columns);
        plan.line = most(of->height + of->above, plan.rows) * plan.width;
        plan.strips = (plan.line + MOST - 1) / MOST;
        plan.strip = (plan.rows + plan.strips - 1) / plan.strips;
        plan.strips = (plan.rows + plan.strip - 1) / plan.strip;
        plan.total = of->pictures * plan.strips;
    }
    plan.inputs = whole(plan.channels, SIDE);
    plan.at_once = plan.line < PART ? PART / plan.line : 1;
    plan.blocks = whole(plan.strips > 1 ? plan.strip * plan.width : plan.at_once * plan.line, BLOCK) / BLOCK;
    plan.parts = (plan.total + plan.at_once - 1) / plan.at_once;
    return plan;
}

/* Values of the rows under the kernel, where they are gathered. */
static long padded_of(const Plan *plan) { return plan->of->gathered ? whole(plan->of->down * plan->width * plan->of->channels, BLOCK) : 0; }

static void learn(const void *of_plan, int thread, long first, long last) {
    const Plan *plan = of_plan;
    long pixels = plan->blocks * BLOCK, reach = reach_of(plan), taps = plan->taps;
    char *at = plan->room + (size_t)thread * plan->bytes;
    Room room;
    room.padded = (uint16_t *)at;
    room.own_values = room.padded + padded_of(plan);
    room.own_slopes = room.own_values + (pixels + reach + 2) * plan->inputs;
    room.turned = room.own_slopes + pixels * plan->outputs;
    room.pairs[0] = (uint32_t *)(room.turned + pixels * plan->outputs);
    room.pairs[1] = room.pairs[0] + (pixels + reach + 2) / 2 * plan->inputs;
    memset(at, 0, (size_t)((char *)room.turned - at));
    float *sums = plan->sums + thread * taps * plan->outputs * plan->inputs, *of_slopes = plan->slope_sums + thread * plan->outputs * SIDE;
    configure();
    for (long part = first; part < last; part++) {
        lay_out(plan, &room, part);
        pair(room.values, room.pairs[0], pixels + reach, plan->inputs);
        if (reach) pair(room.values + plan->inputs, room.pairs[1], pixels + reach - 1, plan->inputs);
        for (long block = 0; block < plan->blocks; block++)
            for (long n = 0; n < plan->outputs; n += SIDE)
                turn(room.slopes + block * BLOCK * plan->outputs + n, plan->outputs, room.turned + (block * plan->outputs + n) * BLOCK,
                     of_slopes + n * SIDE);
        add_up_part(plan, &room, sums);
    }
    _tile_release();
}

/* `of_weight`, (outputs, down, across, channels), and `of_bias`, (outputs): float32. 0, or 1 where memory did not suffice. */
int weight_gradient(const Convolution *of, const void *pictures, const void *slopes, float *of_weight, float *of_bias) {
    Plan plan = plan_for(of);
    plan.pictures = pictures;
    plan.slopes = slopes;
    long taps = plan.taps, pixels = plan.blocks * BLOCK, around = pixels + reach_of(&plan) + 2;
    plan.bytes = 2 * (size_t)(padded_of(&plan) + around * plan.inputs + 2 * pixels * plan.outputs + 4 * (around / 2 + 1) * plan.inputs);
    plan.bytes = (size_t)whole((long)plan.bytes, 64);
    size_t sums = sizeof(float) * (size_t)(of->threads * plan.outputs * (taps * plan.inputs + SIDE));
    plan.room = aligned((size_t)of->threads * plan.bytes);
    plan.sums = aligned(sums);
    if (plan.room && plan.sums) {
        memset(plan.sums, 0, sums);
        plan.slope_sums = plan.sums + of->threads * taps * plan.outputs * plan.inputs;
        share(learn, &plan, plan.parts, of->threads);
        for (long n = 0; n < of->outputs; n++)
            for (long tap = 0; tap < taps; tap++)
                for (long c = 0; c < plan.channels; c++) {
                    float sum = 0;
                    for (long thread = 0; thread < of->threads; thread++) {
                        long tile = (thread * taps + tap) * plan.outputs * plan.inputs + n / SIDE * SIDE * plan.inputs + c / SIDE * SIDE * SIDE;
                        sum += plan.sums[tile + n % SIDE * SIDE + c % SIDE];
                    }
                    of_weight[(n * taps + tap) * plan.channels + c] = sum;
                }
        for (long n = 0; n < of->outputs; n++) {
            of_bias[n] = 0;
            for (long thread = 0; thread < of->threads; thread++)
                of_bias[n] += _mm512_reduce_add_ps(_mm512_load_ps(plan.slope_sums + (thread * plan.outputs + n) * SIDE));
        }
    }
    int failed = !plan.room || !plan.sums;
    free(plan.room);
    free(plan.sums);
    return failed;
}

/* ---- the convolution itself, of what is gathered, and the gradient of what comes into a 1x1 one ---- */

typedef struct {
    Plan plan;
    const uint32_t *kernel; /* (inputs / 2, outputs): of every output pairs of what comes in */
    const float *bias;      /* (outputs) */
    int relu;
    const uint16_t *above;  /* instead of both: (pixels, of->outputs), where these are zero so is the output; and the sums of the rest */
    double *sums;           /* (threads, outputs) */
    uint16_t *output;       /* (pixels, of->outputs) */
} Product;

/* Sums of SIDE pixels for SIDE outputs, of which there are fewer at the end. */
INLINE void finish(const Product *product, const float *sums, double *total, long pixel, long pixels, long output, int cut) {
    long outputs = product->plan.of->outputs, number = least(SIDE, pixels), at = pixel * outputs + output;
    int relu = product->relu;
    uint16_t *to = product->output + at;
    const uint16_t *above = product->above + at;
    __mmask16 there = (__mmask16)((1u << least(SIDE, outputs - output)) - 1);
    __m512 zero = _mm512_setzero_ps(), bias = cut ? zero : _mm512_loadu_ps(product->bias + output), sum = zero;
    for (long k = 0; k < number; k++, to += outputs, above += outputs) {
        __m512 values = _mm512_load_ps(sums + k * SIDE);
        if (cut) {
            __m256i other = _mm256_maskz_loadu_epi16(there, above);
            values = _mm512_maskz_mov_ps(_mm256_test_epi16_mask(other, _mm256_set1_epi16(0x7fff)), values);
            sum = _mm512_add_ps(sum, values);
        } else {
            values = _mm512_add_ps(values, bias);
            if (relu) values = _mm512_max_ps(zero, values); /* in this order what is no number stays none */
        }
        _mm256_mask_storeu_epi16(to, there, (__m256i)_mm512_cvtneps_pbh(values));
    }
    if (cut) {
        total += output;
        _mm512_storeu_pd(total, _mm512_add_pd(_mm512_loadu_pd(total), _mm512_cvtps_pd(_mm512_castps512_ps256(sum))));
        _mm512_storeu_pd(total + 8, _mm512_add_pd(_mm512_loadu_pd(total + 8), _mm512_cvtps_pd(_mm512_extractf32x8_ps(sum, 1))));
    }
}

/* Two by two tiles of pixels and outputs, or fewer. */
INLINE void meet(const Product *product, const uint16_t *values, long n, float *sums, int high, int wide) {
    long inputs = product->plan.inputs, outputs = product->plan.outputs;
    const uint32_t *kernel = product->kernel + n;
    int row = SIDE * sizeof(float), step = (int)inputs * 2, next = (int)outputs * 4;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (long k = 0; k < inputs; k += BLOCK) {
        _tile_loadd(4, values + k, step);
        _tile_loadd(6, kernel + k / 2 * outputs, next);
        _tile_dpbf16ps(0, 4, 6);
        if (wide > 1) {
            _tile_loadd(7, kernel + k / 2 * outputs + SIDE, next);
            _tile_dpbf16ps(1, 4, 7);
        }
        if (high > 1) {
            _tile_loadd(5, values + SIDE * inputs + k, step);
            _tile_dpbf16ps(2, 5, 6);
            if (wide > 1) _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, sums, row);
    if (wide > 1) _tile_stored(1, sums + SIDE * SIDE, row);
    if (high > 1) _tile_stored(2, sums + 2 * SIDE * SIDE, row);
    if (high > 1 && wide > 1) _tile_stored(3, sums + 3 * SIDE * SIDE, row);
}

/* BLOCK pixels, or fewer at the end, for as many outputs. */
INLINE void multiply_tiles(const Product *product, const uint16_t *values, float *sums, double *totals, long pixel, long pixels, long n, int cut) {
    int high = pixels > SIDE, wide = n + SIDE < product->plan.outputs;
    if (high && wide)
        meet(product, values, n, sums, 2, 2);
    else if (high)
        meet(product, values, n, sums, 2, 1);
    else if (wide)
        meet(product, values, n, sums, 1, 2);
    else
        meet(product, values, n, sums, 1, 1);
    finish(product, sums, totals, pixel, pixels, n, cut);
    if (wide) finish(product, sums + SIDE * SIDE, totals, pixel, pixels, n + SIDE, cut);
    if (high) finish(product, sums + 2 * SIDE * SIDE, totals, pixel + SIDE, pixels - SIDE, n, cut);
    if (high && wide) finish(product, sums + 3 * SIDE * SIDE, totals, pixel + SIDE, pixels - SIDE, n + SIDE, cut);
}

static void multiply(const void *of_product, int thread, long first, long last) {
    const Product *product = of_product;
    const Plan *plan = &product->plan;
    char *at = plan->room + (size_t)thread * plan->bytes;
    float *sums = (float *)at;
    double *totals = product->sums + thread * plan->outputs;
    uint16_t *padded = (uint16_t *)(sums + 4 * SIDE * SIDE), *own_values = padded + padded_of(plan);
    memset(at, 0, plan->bytes);
    configure();
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
            for (long n = 0; n < plan->outputs; n += BLOCK)
                if (product->above)
                    multiply_tiles(product, values + p * plan->inputs, sums, totals, start + p, pixels - p, n, 1);
                else
                    multiply_tiles(product, values + p * plan->inputs, sums, totals, start + p, pixels - p, n, 0);
    }
    _tile_release();
}

/* A product with a kernel, (plan->channels, of->outputs), or turned round, (of->outputs, plan->channels). 0, or 1 where memory did not
 * suffice. */
static int carry_out(Product *product, const uint16_t *kernel, int turned_round, const float *bias, float *totals) {
    Plan *plan = &product->plan;
    long threads = plan->of->threads, outputs = plan->of->outputs, filled = plan->outputs;
    plan->inputs = whole(plan->channels, BLOCK);
    plan->bytes = (size_t)whole(4 * 4 * SIDE * SIDE + 2 * (padded_of(plan) + plan->blocks * BLOCK * plan->inputs), 64);
    plan->room = aligned((size_t)threads * plan->bytes);
    size_t rows = sizeof(uint16_t) * (size_t)(plan->inputs * filled), sums = sizeof(double) * (size_t)(threads * filled);
    char *room = aligned(2 * rows + sums + sizeof(float) * (size_t)filled);
    if (plan->room && room) {
        memset(room, 0, 2 * rows + sums + sizeof(float) * (size_t)filled);
        uint16_t *weights = (uint16_t *)(room + rows);
        if (turned_round)
            for (long n = 0; n < outputs; n++)
                for (long k = 0; k < plan->channels; k++)
                    weights[k * filled + n] = kernel[n * plan->channels + k];
        else
            copy(kernel, outputs, weights, filled, plan->channels);
        pair(weights, (uint32_t *)room, plan->inputs, filled);
        product->kernel = (const uint32_t *)room;
        product->sums = (double *)(room + 2 * rows);
        product->bias = (const float *)(room + 2 * rows + sums);
        if (bias) memcpy(room + 2 * rows + sums, bias, sizeof(float) * (size_t)outputs);
        share(multiply, product, plan->parts, (int)threads);
        for (long n = 0; totals && n < outputs; n++) {
            double total = 0;
            for (long thread = 0; thread < threads; thread++)
                total += product->sums[thread * filled + n];
            totals[n] = (float)total;
        }
    }
    int failed = !plan->room || !room;
    free(plan->room);
    free(room);
    return failed;
}

/* `output`, (pictures, rows, columns, outputs), bfloat16, of a `kernel`, (outputs, down, across, channels), likewise, whose pictures are
 * gathered; ReLU of it if `relu`. `bias` may be NULL. 0, or 1 where memory did not suffice. */
int convolve(const Convolution *of, const void *pictures, const uint16_t *kernel, const float *bias, int relu, uint16_t *output) {
    Product product = {.plan = plan_for(of), .relu = relu, .output = output};
    product.plan.pictures = pictures;
    return carry_out(&product, kernel, 1, bias, NULL);
}

/* Of a 1x1 convolution behind a ReLU, from the slopes of what came out, (pixels, of->channels), the gradient in front of that ReLU,
 * (pixels, of->outputs), and its sum over the pixels, float32. `kernel`: (of->channels, of->outputs); `above`: what the ReLU made. All
 * else bfloat16. 0, or 1 where memory did not suffice. */
int descend(const Convolution *of, const void *slopes, const uint16_t *kernel, const uint16_t *above, uint16_t *output, float *of_bias) {
    Product product = {.plan = plan_for(of), .above = above, .output = output};
    product.plan.pictures = slopes;
    return carry_out(&product, kernel, 0, NULL, of_bias);
}

#endif
