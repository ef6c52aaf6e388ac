/* The gradient of a convolution's weights, in bfloat16 on matrix units (AMX): for every tap of the kernel and every pixel, the product of
 * what came in with the slope of what came out; and that of its bias, the sum of the slopes.
 *
 * Pictures and slopes lie in channels-last memory; the stride is 1. Of each part of the pictures the slopes are turned round once, so that
 * the pixels of a channel lie side by side, and what came in is paired pixel by pixel, as the units want them. Padded pictures are laid out
 * as one long line in which every tap is a distance; where that is odd, the pairs are other ones. Added up in float32.
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
} Convolution;

typedef struct {
    const Convolution *of;
    const uint16_t *pictures, *slopes;
    long width, rows, columns, line; /* from one row of the long line to the next; of what came out; from one picture to the next */
    long strips, strip;              /* of a picture that is large, so many; rows of what came out in each */
    long total, at_once;             /* pictures, strips of them, or pixels of a line; so many are a part */
    long parts, blocks;              /* so many of these; tiles of pixels of each */
    long inputs, outputs;            /* channels, filled up to whole tiles */
    size_t bytes;                    /* of a thread's room */
    char *room;
    float *sums;       /* (threads, taps, outputs / SIDE, inputs / SIDE, SIDE, SIDE) */
    float *slope_sums; /* (threads, outputs, SIDE), to be added up */
} Plan;

typedef struct {
    uint16_t *own_values, *own_slopes; /* in a long line */
    const uint16_t *values, *slopes;   /* these, or the pictures as they lie */
    uint32_t *pairs[2];        /* from even and from odd pixels on: (pixels / 2, inputs) */
    uint16_t *turned;          /* (blocks, outputs / SIDE, SIDE, BLOCK) */
} Room;

/* Linux gives a process the use of the tiles only when it is asked. */
int matrices(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

static long whole(long number, long of) { return (number + of - 1) / of * of; }

static long most(long one, long other) { return one > other ? one : other; }

static int is_line(const Convolution *of) { return of->down == 1 && of->across == 1 && !of->above && !of->beside; }

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
    const uint16_t *values = plan->pictures + picture * of->height * of->width * of->channels;
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

static void lay_out(const Plan *plan, Room *room, long part) {
    const Convolution *of = plan->of;
    long first = part * plan->at_once, number = least(plan->at_once, plan->total - first), filled = number * plan->line;
    room->values = room->own_values;
    room->slopes = room->own_slopes;
    if (is_line(of)) {
        if (number == plan->blocks * BLOCK && of->channels == plan->inputs && of->outputs == plan->outputs) {
            room->values = plan->pictures + first * of->channels; /* as they lie */
            room->slopes = plan->slopes + first * of->outputs;
            return;
        }
        copy(plan->pictures + first * of->channels, of->channels, room->own_values, plan->inputs, number);
        copy(plan->slopes + first * of->outputs, of->outputs, room->own_slopes, plan->outputs, number);
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
    for (long tap = 0; tap < plan->of->down * plan->of->across; tap++) {
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

static void learn(const void *of_plan, int thread, long first, long last) {
    const Plan *plan = of_plan;
    long pixels = plan->blocks * BLOCK, reach = (plan->of->down - 1) * plan->width + plan->of->across - 1;
    long taps = plan->of->down * plan->of->across;
    char *at = plan->room + (size_t)thread * plan->bytes;
    Room room;
    room.own_values = (uint16_t *)at;
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
    Plan plan = {.of = of, .pictures = pictures, .slopes = slopes, .inputs = whole(of->channels, SIDE), .outputs = whole(of->outputs, SIDE)};
    plan.rows = of->height + 2 * of->above - of->down + 1;
    plan.columns = of->width + 2 * of->beside - of->across + 1;
    /* The zeros behind a row are those before the next, and those below a picture those above the next. */
    plan.width = most(of->width + of->beside, plan.columns);
    plan.line = is_line(of) ? 1 : most(of->height + of->above, plan.rows) * plan.width;
    plan.strips = is_line(of) ? 1 : (plan.line + MOST - 1) / MOST;
    plan.strip = (plan.rows + plan.strips - 1) / plan.strips;
    plan.strips = (plan.rows + plan.strip - 1) / plan.strip;
    plan.at_once = plan.line < PART ? PART / plan.line : 1;
    plan.blocks = whole(plan.strips > 1 ? plan.strip * plan.width : plan.at_once * plan.line, BLOCK) / BLOCK;
    plan.total = (is_line(of) ? of->height * of->width : plan.strips) * of->pictures;
    plan.parts = (plan.total + plan.at_once - 1) / plan.at_once;
    long taps = of->down * of->across, pixels = plan.blocks * BLOCK, reach = (of->down - 1) * plan.width + of->across - 1;
    plan.bytes = 2 * (size_t)((pixels + reach + 2) * plan.inputs + 2 * pixels * plan.outputs + 4 * ((pixels + reach + 2) / 2 + 1) * plan.inputs);
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
                for (long c = 0; c < of->channels; c++) {
                    float sum = 0;
                    for (long thread = 0; thread < of->threads; thread++) {
                        long tile = (thread * taps + tap) * plan.outputs * plan.inputs + n / SIDE * SIDE * plan.inputs + c / SIDE * SIDE * SIDE;
                        sum += plan.sums[tile + n % SIDE * SIDE + c % SIDE];
                    }
                    of_weight[(n * taps + tap) * of->channels + c] = sum;
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

#endif
