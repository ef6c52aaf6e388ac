#include "tiles.h"

#ifdef MATRICES

#include <sys/syscall.h>
#include <unistd.h>

/* Linux gives a process the use of the tiles only when it is asked. */
int matrices(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }

void configure(int first, int second) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } tiles = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) {
        tiles.bytes[tile] = 64;
        tiles.rows[tile] = (uint8_t)(tile > 5 ? SIDE : tile == 2 || tile == 3 || tile == 5 ? second : first);
    }
    __asm__ volatile("" : : "r"(&tiles) : "memory"); /* GCC takes the instruction to read the first bytes alone */
    _tile_loadconfig(&tiles);
}

Plan plan_for(const Convolution *of) {
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
    if (is_line(of) && of->channels + of->outputs > MANY) plan.at_once /= 2;
    plan.blocks = whole(plan.strips > 1 ? plan.strip * plan.width : plan.at_once * plan.line, BLOCK) / BLOCK;
    plan.parts = (plan.total + plan.at_once - 1) / plan.at_once;
    return plan;
}

void pair(const uint16_t *values, uint32_t *pairs, long pixels, long channels, long apart) {
    for (long pixel = 0; pixel + 1 < pixels; pixel += 2)
        for (long c = 0; c < channels; c += SIDE) {
            __m512i first = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values + pixel * apart + c)));
            __m512i second = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)(values + (pixel + 1) * apart + c)));
            _mm512_storeu_si512(pairs + pixel / 2 * channels + c, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
        }
}

void copy(const uint16_t *from, long channels, uint16_t *to, long filled, long pixels) {
    if (channels == filled) {
        memcpy(to, from, sizeof(uint16_t) * (size_t)(pixels * channels));
        return;
    }
    for (long pixel = 0; pixel < pixels; pixel++)
        memcpy(to + pixel * filled, from + pixel * channels, sizeof(uint16_t) * (size_t)channels);
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

void gather(const Plan *plan, uint16_t *padded, long first, long number, uint16_t *gathered) {
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

#endif
