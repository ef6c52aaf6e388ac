/* The gradient of a convolution's weights, in bfloat16 on matrix units (AMX): for every tap of the kernel and every pixel, the product of
 * what came in with the slope of what came out; and that of its bias, the sum of the slopes.
 *
 * Pictures and slopes lie in channels-last memory. Of each part of the pictures the slopes are turned round once, so that the pixels of a
 * channel lie side by side, and what came in is paired pixel by pixel, as the units want them. Padded pictures are laid out as one long
 * line in which every tap is a distance; where that is odd, the pairs are other ones. Added up in float32.
 *
 * Small pictures are stacked instead: what is added up at once is the same pixel of 32 pictures, so that nothing is padded.
 *
 * Of pictures with few channels, all that the kernel meets at a pixel is laid out as the channels of one (`gathered`), whatever the stride.
 */

#include "gradients.h"

#ifdef MATRICES

#define MUCH 32768  /* sums for which several threads pay */
#define SMALL 26000 /* values of a picture, in and out, of which the caches hold a stack */

typedef struct {
    uint16_t *padded;                  /* rows under the kernel, where they are gathered */
    uint16_t *own_values, *own_slopes; /* in a long line */
    const uint16_t *values, *slopes;   /* these, or the pictures as they lie */
    uint32_t *pairs[2];                /* from even and from odd pixels on: (pixels / 2, inputs) */
    uint16_t *turned;                  /* (blocks, outputs / SIDE, SIDE, BLOCK) */
} Room;

/* Of what is laid out, the pixels that the last tap is away. */
static long reach_of(const Plan *plan) { return plan->taps > 1 ? (plan->of->down - 1) * plan->width + plan->of->across - 1 : 0; }

/* BLOCK pixels, so far apart, of SIDE channels, the pixels of a channel side by side; what they add up to is added to `sums`, (SIDE, SIDE). */
static void turn(const uint16_t *slopes, long apart, uint16_t *turned, float *sums) {
    __m512i rows[SIDE];
    for (int k = 0; k < SIDE; k++) {
        const uint16_t *here = slopes + 2 * k * apart;
        __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)here));
        __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(here + apart)));
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

/* Two by two tiles of sums, or fewer; `next`: from one to that for the next outputs. */
INLINE void begin(const float *sums, long next, int high, int wide) {
    int row = SIDE * sizeof(float);
    _tile_loadd(0, sums, row);
    if (wide) _tile_loadd(1, sums + SIDE * SIDE, row);
    if (high) _tile_loadd(2, sums + next, row);
    if (high && wide) _tile_loadd(3, sums + next + SIDE * SIDE, row);
}

INLINE void end(float *sums, long next, int high, int wide) {
    int row = SIDE * sizeof(float);
    _tile_stored(0, sums, row);
    if (wide) _tile_stored(1, sums + SIDE * SIDE, row);
    if (high) _tile_stored(2, sums + next, row);
    if (high && wide) _tile_stored(3, sums + next + SIDE * SIDE, row);
}

INLINE void add_block(const Plan *plan, const uint16_t *turned, const uint32_t *pairs, int high, int wide) {
    meet(turned, turned + SIDE * BLOCK, SIDE * sizeof(float), pairs, (int)plan->inputs * 4, high, wide);
}

/* Over all pixels of a part that lie in a line. */
INLINE void add_up_line(const Plan *plan, const uint16_t *turned, const uint32_t *pairs, float *sums, int high, int wide) {
    begin(sums, plan->inputs * SIDE, high, wide);
    for (long block = 0; block < plan->blocks; block++)
        add_block(plan, turned + block * plan->outputs * BLOCK, pairs + block * SIDE * plan->inputs, high, wide);
    end(sums, plan->inputs * SIDE, high, wide);
}

/* Over all pixels of stacks of pictures that a tap meets. */
INLINE void add_up_stacks(const Plan *plan, const uint16_t *turned, const uint32_t *pairs, float *sums, long stacks, long tap, int high,
                          int wide) {
    const Convolution *of = plan->of;
    long down = tap / of->across - of->above, across = tap % of->across - of->beside;
    long top = most(0, -down), bottom = least(plan->rows, of->height - down);
    long left = most(0, -across), right = least(plan->columns, of->width - across);
    begin(sums, plan->inputs * SIDE, high, wide);
    for (long stack = 0; stack < stacks; stack++)
        for (long y = top; y < bottom; y++)
            for (long x = left; x < right; x++) {
                long pixel = (stack * plan->rows + y) * plan->columns + x, met = (stack * of->height + y + down) * of->width + x + across;
                add_block(plan, turned + pixel * plan->outputs * BLOCK, pairs + met * SIDE * plan->inputs, high, wide);
            }
    end(sums, plan->inputs * SIDE, high, wide);
}

static void add_up_part(const Plan *plan, const Room *room, float *sums, long stacks) {
    long inputs = plan->inputs, outputs = plan->outputs;
    for (long n = 0; n < outputs; n += 2 * SIDE)
        for (long c = 0; c < inputs; c += 2 * SIDE) {
            const uint16_t *turned = room->turned + n * BLOCK;
            int high = n + SIDE < outputs, wide = c + SIDE < inputs;
            for (long tap = 0; tap < plan->taps; tap++) {
                long away = stacks ? 0 : tap / plan->of->across * plan->width + tap % plan->of->across;
                const uint32_t *pairs = room->pairs[away % 2] + away / 2 * inputs + c;
                float *here = sums + ((tap * outputs + n) * inputs + c * SIDE);
#define LINE(high, wide) add_up_line(plan, turned, pairs, here, high, wide)
#define STACKS(high, wide) add_up_stacks(plan, turned, pairs, here, stacks, tap, high, wide)
                if (stacks)
                    BY_TILES(STACKS);
                else
                    BY_TILES(LINE);
#undef LINE
#undef STACKS
            }
        }
}

/* A stack of BLOCK pictures, or fewer and zeros, pixel by pixel: slopes turned round, and pairs of what came in. */
static void lay_out_stack(const Gradient *gradient, const Room *room, long first, uint16_t *turned, uint32_t *pairs, float *of_slopes) {
    const Plan *plan = &gradient->plan;
    const Convolution *of = plan->of;
    long size = of->height * of->width * of->channels, made = plan->rows * plan->columns * of->outputs, number = of->pictures - first;
    const uint16_t *values = (const uint16_t *)plan->pictures + first * size, *slopes = gradient->slopes + first * made;
    if (number < BLOCK) { /* in what was zero since the beginning */
        memcpy(room->own_values, values, sizeof(uint16_t) * (size_t)(number * size));
        memcpy(room->own_slopes, slopes, sizeof(uint16_t) * (size_t)(number * made));
        values = room->own_values;
        slopes = room->own_slopes;
    }
    for (long pixel = 0; pixel < of->height * of->width; pixel++)
        pair(values + pixel * of->channels, pairs + pixel * SIDE * plan->inputs, BLOCK, of->channels, size);
    for (long pixel = 0; pixel < plan->rows * plan->columns; pixel++)
        for (long n = 0; n < plan->outputs; n += SIDE)
            turn(slopes + pixel * of->outputs + n, made, turned + (pixel * plan->outputs + n) * BLOCK, of_slopes + n * SIDE);
}

/* Values of a thread's room. */
typedef struct {
    long padded, values, slopes, turned, pairs; /* `pairs` of two values each, twice */
} Sizes;

static Sizes sizes_of(const Gradient *gradient) {
    const Plan *plan = &gradient->plan;
    const Convolution *of = plan->of;
    long inputs = plan->inputs, outputs = plan->outputs;
    if (gradient->stacked) {
        long met = of->height * of->width, made = plan->rows * plan->columns, stacks = plan->at_once, own = of->pictures % BLOCK ? BLOCK : 0;
        return (Sizes){0, own * met * inputs, own * made * outputs, stacks * made * outputs * BLOCK, stacks * met * SIDE * inputs};
    }
    long pixels = plan->blocks * BLOCK, around = pixels + reach_of(plan) + 2;
    return (Sizes){padded_of(plan), around * inputs, pixels * outputs, pixels * outputs, (around / 2 + 1) * inputs};
}

static Room room_of(const Gradient *gradient, int thread) {
    Sizes sizes = sizes_of(gradient);
    Room room = {.padded = (uint16_t *)(gradient->plan.room + (size_t)thread * gradient->plan.bytes)};
    room.own_values = room.padded + sizes.padded;
    room.own_slopes = room.own_values + sizes.values;
    room.turned = room.own_slopes + sizes.slopes;
    room.pairs[0] = (uint32_t *)(room.turned + sizes.turned);
    room.pairs[1] = room.pairs[0] + sizes.pairs;
    return room;
}

void learn_parts(const Gradient *gradient, int thread, long first, long last) {
    const Plan *plan = &gradient->plan;
    long pixels = plan->blocks * BLOCK, reach = reach_of(plan), outputs = plan->outputs;
    Room room = room_of(gradient, thread);
    float *sums = gradient->sums + thread * plan->taps * outputs * plan->inputs;
    float *of_slopes = gradient->slope_sums + thread * outputs * SIDE;
    for (long part = first; part < last; part++) {
        if (gradient->stacked) {
            long from = part * plan->at_once, stacks = least(plan->at_once, plan->total - from);
            long turned = plan->rows * plan->columns * outputs * BLOCK, pairs = plan->of->height * plan->of->width * SIDE * plan->inputs;
            for (long stack = 0; stack < stacks; stack++)
                lay_out_stack(gradient, &room, (from + stack) * BLOCK, room.turned + stack * turned, room.pairs[0] + stack * pairs, of_slopes);
            add_up_part(plan, &room, sums, stacks);
            continue;
        }
        lay_out(gradient, &room, part);
        pair(room.values, room.pairs[0], pixels + reach, plan->inputs, plan->inputs);
        if (reach) pair(room.values + plan->inputs, room.pairs[1], pixels + reach - 1, plan->inputs, plan->inputs);
        for (long block = 0; block < plan->blocks; block++)
            for (long n = 0; n < outputs; n += SIDE)
                turn(room.slopes + block * BLOCK * outputs + n, outputs, room.turned + (block * outputs + n) * BLOCK, of_slopes + n * SIDE);
        add_up_part(plan, &room, sums, 0);
    }
}

static void learn(const void *of_gradient, int thread, long first, long last) {
    configure(SIDE, SIDE);
    learn_parts(of_gradient, thread, first, last);
    _tile_release();
}

/* Of so many outputs, counted through the threads' sums. */
static void clear_sums(const void *of_gradient, int thread, long first, long last) {
    const Gradient *gradient = of_gradient;
    long each = gradient->plan.taps * gradient->plan.inputs;
    (void)thread;
    memset(gradient->sums + first * each, 0, sizeof(float) * (size_t)((last - first) * each));
    memset(gradient->slope_sums + first * SIDE, 0, sizeof(float) * (size_t)((last - first) * SIDE));
}

static void share_if(int much, Task *task, const void *job, long parts, int threads) {
    if (much)
        share(task, job, parts, threads);
    else
        task(job, 0, 0, parts);
}

int begin_gradient(Gradient *gradient) {
    Plan *plan = &gradient->plan;
    const Convolution *of = plan->of;
    long taps = plan->taps, inputs = plan->inputs, outputs = plan->outputs, made = plan->rows * plan->columns;
    gradient->stacked = !of->gathered && !is_line(of) && of->channels == inputs && of->outputs == outputs && of->pictures >= SIDE &&
                        made * outputs + of->height * of->width * inputs <= SMALL;
    if (gradient->stacked) {
        plan->total = (of->pictures + BLOCK - 1) / BLOCK;
        plan->at_once = most(1, 2 * PART / BLOCK / made);
        plan->parts = (plan->total + plan->at_once - 1) / plan->at_once;
    }
    Sizes sizes = sizes_of(gradient);
    size_t zero = sizeof(uint16_t) * (size_t)(sizes.padded + sizes.values + sizes.slopes);
    plan->bytes = (size_t)whole((long)zero + 2 * (sizes.turned + 4 * sizes.pairs), 64);
    size_t sums = sizeof(float) * (size_t)(of->threads * outputs * (taps * inputs + SIDE));
    plan->room = aligned((size_t)of->threads * plan->bytes);
    gradient->sums = aligned(sums);
    if (!plan->room || !gradient->sums) return 0;
    for (long thread = 0; thread < of->threads; thread++)
        memset(plan->room + (size_t)thread * plan->bytes, 0, zero);
    gradient->slope_sums = gradient->sums + of->threads * taps * outputs * inputs;
    share_if(outputs * taps * inputs >= MUCH, clear_sums, gradient, of->threads * outputs, of->threads);
    return 1;
}

typedef struct {
    const Gradient *gradient;
    float *of_weight, *of_bias;
} Found;

/* What the threads have, of some outputs, added up. */
static void add_threads(const void *of_found, int thread, long first, long last) {
    const Found *found = of_found;
    const Plan *plan = &found->gradient->plan;
    long taps = plan->taps, inputs = plan->inputs, outputs = plan->outputs, next = taps * outputs * inputs;
    (void)thread;
    for (long n = first; n < last; n++) {
        for (long tap = 0; tap < taps; tap++)
            for (long c = 0; c < plan->channels; c += SIDE) {
                const float *sums = found->gradient->sums + tap * outputs * inputs + n / SIDE * SIDE * inputs + c * SIDE + n % SIDE * SIDE;
                __m512 sum = _mm512_load_ps(sums);
                for (long other = 1; other < plan->of->threads; other++)
                    sum = _mm512_add_ps(sum, _mm512_load_ps(sums + other * next));
                _mm512_mask_storeu_ps(found->of_weight + (n * taps + tap) * plan->channels + c,
                                      (__mmask16)((1u << least(SIDE, plan->channels - c)) - 1), sum);
            }
        found->of_bias[n] = 0;
        for (long other = 0; other < plan->of->threads; other++)
            found->of_bias[n] += _mm512_reduce_add_ps(_mm512_load_ps(found->gradient->slope_sums + (other * outputs + n) * SIDE));
    }
}

void end_gradient(Gradient *gradient, float *of_weight, float *of_bias) {
    const Plan *plan = &gradient->plan;
    Found found = {gradient, of_weight, of_bias};
    if (gradient->slope_sums) share_if(plan->outputs * plan->taps * plan->inputs >= MUCH, add_threads, &found, plan->of->outputs, plan->of->threads);
    free(plan->room);
    free(gradient->sums);
}

/* See `begin_gradient` and `end_gradient`. 0, or 1 where memory did not suffice. */
int weight_gradient(const Convolution *of, const void *pictures, const void *slopes, float *of_weight, float *of_bias) {
    Gradient gradient = {.plan = plan_for(of), .slopes = slopes};
    gradient.plan.pictures = pictures;
    int begun = begin_gradient(&gradient);
    if (begun) share(learn, &gradient, gradient.plan.parts, of->threads);
    end_gradient(&gradient, of_weight, of_bias);
    return !begun;
}

#endif
