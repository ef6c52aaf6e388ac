/* What products and gradients on matrix units (AMX, bfloat16) share: convolutions, how pictures are laid out for the units, and their tiles. */

#ifndef TILES_H
#define TILES_H

#if defined(__AMX_BF16__) || defined(__AMXBF16__) /* as GCC and as Clang say it */
#define MATRICES

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "crew.h"

#define SIDE 16  /* channels or pixels of a tile, and pairs of what is added up */
#define BLOCK 32 /* values that a tile adds up */
#define PART 512 /* pixels that are laid out at once, about: of small pictures so many together */
#define MANY 384 /* channels in and out, of which half as many pixels fill the caches */
#define MOST 1024 /* of large ones no more */

typedef struct {
    int32_t threads;
    int64_t pictures, height, width, channels, outputs; /* of what came in, and how many channels came out */
    int64_t down, across, above, beside;                /* taps, and zeros on each side */
    int64_t stride;                                     /* 1 where nothing is gathered */
    int32_t gathered, half;                             /* `half`: the pictures are bfloat16; only gathered ones may be float32 */
} Convolution;

/* How the pictures are parted and laid out. */
typedef struct {
    const Convolution *of;
    const void *pictures;
    long width, rows, columns, line; /* from one row of the long line to the next; of what came out; from one picture to the next */
    long strips, strip;              /* of a picture that is large, so many; rows of what came out in each */
    long total, at_once;             /* pictures, strips or gathered rows of them, or pixels of a line; so many are a part */
    long parts, blocks;              /* so many of these; tiles of pixels of each */
    long taps, channels;             /* of a pixel as it is laid out, which has one tap where all under the kernel is gathered */
    long inputs, outputs;            /* channels, filled up to whole tiles */
    size_t bytes;                    /* of a thread's room */
    char *room;
} Plan;

static inline long whole(long number, long of) { return (number + of - 1) / of * of; }

static inline long most(long one, long other) { return one > other ? one : other; }

static inline int is_line(const Convolution *of) { return of->down == 1 && of->across == 1 && !of->above && !of->beside && !of->gathered; }

Plan plan_for(const Convolution *of);

/* Tiles 0 to 3 are sums, 4 and 5 what came in or out, 6 and 7 pairs; of the first two rows of sums, and of 4 and 5, so many rows. */
void configure(int first, int second);

/* Pixels further on, pairs of two that follow each other so far apart, of all channels. */
void pair(const uint16_t *values, uint32_t *pairs, long pixels, long channels, long apart);

/* A matrix of 16x16 pairs: rows become columns. */
INLINE void transpose(__m512i rows[SIDE]) {
    __m512i a[SIDE], b[SIDE];
    /* In squares of two, then of four, then of those. */
    for (int k = 0; k < SIDE; k += 2) {
        b[k] = _mm512_unpacklo_epi32(rows[k], rows[k + 1]);
        b[k + 1] = _mm512_unpackhi_epi32(rows[k], rows[k + 1]);
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
        rows[k] = _mm512_shuffle_i32x4(even, later, 0x88);
        rows[k + 4] = _mm512_shuffle_i32x4(odd, last, 0x88);
        rows[k + 8] = _mm512_shuffle_i32x4(even, later, 0xdd);
        rows[k + 12] = _mm512_shuffle_i32x4(odd, last, 0xdd);
    }
}

/* To two by two tiles of sums, or fewer, the products of two tiles of BLOCK values, rows `apart` bytes, and two of pairs, rows `next` bytes. */
INLINE void meet(const uint16_t *first, const uint16_t *second, int apart, const uint32_t *pairs, int next, int high, int wide) {
    _tile_loadd(4, first, apart);
    _tile_loadd(6, pairs, next);
    _tile_dpbf16ps(0, 4, 6);
    if (wide) {
        _tile_loadd(7, pairs + SIDE, next);
        _tile_dpbf16ps(1, 4, 7);
    }
    if (high) {
        _tile_loadd(5, second, apart);
        _tile_dpbf16ps(2, 5, 6);
        if (wide) _tile_dpbf16ps(3, 5, 7);
    }
}

/* With numbers that the compiler knows. */
#define BY_TILES(call)                          \
    do {                                        \
        if (high && wide) call(1, 1);           \
        else if (high) call(1, 0);              \
        else if (wide) call(0, 1);              \
        else call(0, 0);                        \
    } while (0)

/* Pixels of some channels into a line whose pixels have as many or more, the rest of them left as it is. */
void copy(const uint16_t *from, long channels, uint16_t *to, long filled, long pixels);

static inline void clear(uint16_t *line, long channels, long pixels) { memset(line, 0, sizeof(uint16_t) * (size_t)(channels * pixels)); }

/* Of so many rows of what comes out, counted through all pictures, all values under the kernel, pixel by pixel: (rows * columns, inputs).
 * `padded`: room for `padded_of` values, zero in the beginning. */
void gather(const Plan *plan, uint16_t *padded, long first, long number, uint16_t *gathered);

static inline long padded_of(const Plan *plan) {
    return plan->of->gathered ? whole(plan->of->down * plan->width * plan->of->channels, BLOCK) : 0;
}

#endif
#endif
