/* The gradient of a convolution's weights, in bfloat16 on matrix units (AMX): for every tap of the kernel and every pixel, the product of
 * what came in with the slope of what came out; and that of its bias, the sum of the slopes.
 *
 * Pictures and slopes lie in channels-last memory. Of each part of the pictures the slopes are turned round once, so that the pixels of a
 * channel lie side by side, and what came in is paired pixel by pixel, as the units want them. Padded pictures are laid out as one long
 * line in which every tap is a distance; where that is odd, the pairs are other ones. Added up in float32.
 *
 * Of pictures with few channels, all that the kernel meets at a pixel is laid out as the channels of one (`gathered`), whatever the stride.
 */

#include "tiles.h"

#ifdef MATRICES

typedef struct {
    Plan plan;
    const uint16_t *slopes;
    float *sums;       /* (threads, taps, outputs / SIDE, inputs / SIDE, SIDE, SIDE) */
    float *slope_sums; /* (threads, outputs, SIDE), to be added up */
} Gradient;

typedef struct {
    uint16_t *padded;                  /* rows under the kernel, where they are gathered */
    uint16_t *own_values, *own_slopes; /* in a long line */
    const uint16_t *values, *slopes;   /* these, or the pictures as they lie */
    uint32_t *pairs[2];                /* from even and from odd pixels on: (pixels / 2, inputs) */
    uint16_t *turned;                  /* (blocks, outputs / SIDE, SIDE, BLOCK) */
} Room;

/* Of what is laid out, the pixels that the last tap is away. */
static long reach_of(const Plan *plan) { return plan->taps > 1 ? (plan->of->down - 1) * plan->width + plan->of->across - 1 : 0; }

/* BLOCK pixels of SIDE channels, the pixels of a channel side by side; and what they add up to is added to `sums`, (SIDE, SIDE). */
static void turn(const uint16_t *slopes, long channels, uint16_t *turned, float *sums) {
    __m512i rows[SIDE];
    for (int k = 0; k < SIDE; k++) {
        const uint16_t *here = slopes + 2 * k * channels;
        __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)here));
        __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(here + channels)));
        rows[k] = _mm512_or_si512(first, _mm512_slli_epi32(second, 16));
    }
    transpose(rows);
    __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int k = 0; k < SIDE; k++) {
        _mm512_storeu_si512(turned + k * BLOCK, rows[k]);
        _mm512_store_ps(sums + k * SIDE, _mm512_dpbf16_ps(_mm512_load_ps(sums + k * SIDE), (__m512bh)rows[k], ones));
    }
}

/* Rows of a picture from `top` of what came out on: slopes, and the values under the kernel; what lies between is zero since the beginning. */
static void lay_out_rows(const Gradient *gradient, const Room *room, long picture, long top, long rows, long here) {
    const Plan *plan = &gradient->plan;
    const Convolution *of = plan->of;
    const uint16_t *values = (const uint16_t *)plan->pictures + picture * of->height * of->width * of->channels;
    const uint16_t *slopes = gradient->slopes + picture * plan->rows * plan->columns * of->outputs;
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

static void lay_out(const Gradient *gradient, Room *room, long part) {
    const Plan *plan = &gradient->plan;
    const Convolution *of = plan->of;
    long first = part * plan->at_once, number = least(plan->at_once, plan->total - first), filled = number * plan->line;
    room->values = room->own_values;
    room->slopes = room->own_slopes;
    if (is_line(of)) {
        if (number == plan->blocks * BLOCK && of->channels == plan->inputs && of->outputs == plan->outputs) {
            room->values = (const uint16_t *)plan->pictures + first * of->channels; /* as they lie */
            room->slopes = gradient->slopes + first * of->outputs;
            return;
        }
        copy((const uint16_t *)plan->pictures + first * of->channels, of->channels, room->own_values, plan->inputs, number);
        copy(gradient->slopes + first * of->outputs, of->outputs, room->own_slopes, plan->outputs, number);
    } else if (of->gathered) {
        gather(plan, room->padded, first, number, room->own_values);
        copy(gradient->slopes + first * plan->columns * of->outputs, of->outputs, room->own_slopes, plan->outputs, filled);
    } else if (plan->strips > 1) {
        long top = part % plan->strips * plan->strip, rows = least(plan->strip, plan->rows - top);
        lay_out_rows(gradient, room, part / plan->strips, top, rows, 0);
        filled = rows * plan->width;
    } else {
        for (long picture = 0; picture < number; picture++)
            lay_out_rows(gradient, room, first + picture, 0, plan->rows, picture * plan->line);
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

static void learn(const void *of_gradient, int thread, long first, long last) {
    const Gradient *gradient = of_gradient;
    const Plan *plan = &gradient->plan;
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
    float *sums = gradient->sums + thread * taps * plan->outputs * plan->inputs;
    float *of_slopes = gradient->slope_sums + thread * plan->outputs * SIDE;
    configure(SIDE, SIDE);
    for (long part = first; part < last; part++) {
        lay_out(gradient, &room, part);
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
    Gradient gradient = {.plan = plan_for(of), .slopes = slopes};
    Plan *plan = &gradient.plan;
    plan->pictures = pictures;
    long taps = plan->taps, inputs = plan->inputs, outputs = plan->outputs, pixels = plan->blocks * BLOCK, around = pixels + reach_of(plan) + 2;
    plan->bytes = 2 * (size_t)(padded_of(plan) + around * inputs + 2 * pixels * outputs + 4 * (around / 2 + 1) * inputs);
    plan->bytes = (size_t)whole((long)plan->bytes, 64);
    size_t sums = sizeof(float) * (size_t)(of->threads * outputs * (taps * inputs + SIDE));
    plan->room = aligned((size_t)of->threads * plan->bytes);
    gradient.sums = aligned(sums);
    if (plan->room && gradient.sums) {
        memset(gradient.sums, 0, sums);
        gradient.slope_sums = gradient.sums + of->threads * taps * outputs * inputs;
        share(learn, &gradient, plan->parts, of->threads);
        for (long n = 0; n < of->outputs; n++)
            for (long tap = 0; tap < taps; tap++)
                for (long c = 0; c < plan->channels; c++) {
                    float sum = 0;
                    for (long thread = 0; thread < of->threads; thread++) {
                        long tile = (thread * taps + tap) * outputs * inputs + n / SIDE * SIDE * inputs + c / SIDE * SIDE * SIDE;
                        sum += gradient.sums[tile + n % SIDE * SIDE + c % SIDE];
                    }
                    of_weight[(n * taps + tap) * plan->channels + c] = sum;
                }
        for (long n = 0; n < of->outputs; n++) {
            of_bias[n] = 0;
            for (long thread = 0; thread < of->threads; thread++)
                of_bias[n] += _mm512_reduce_add_ps(_mm512_load_ps(gradient.slope_sums + (thread * outputs + n) * SIDE));
        }
    }
    int failed = !plan->room || !gradient.sums;
    free(plan->room);
    free(gradient.sums);
    return failed;
}

#endif
