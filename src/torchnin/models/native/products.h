/* A product of pictures with a kernel on matrix units, as products.c carries it out, and backward.c part by part. */

#ifndef PRODUCTS_H
#define PRODUCTS_H

#include "tiles.h"

#ifdef MATRICES

typedef struct {
    Plan plan;
    const uint16_t *weights; /* the kernel, (outputs, taps, channels), or (channels, taps, outputs), the taps from the last to the first */
    int backward;            /* whether it is the latter */
    int stacked;
    long steps;             /* of BLOCK channels; where stacked, the last may begin before the end of the one before */
    const uint32_t *kernel; /* (taps, steps, SIDE, filled outputs): of every output pairs of what comes in */
    const float *bias;      /* (filled outputs) */
    int relu;
    enum { PLAIN, MEASURED, CUT } kind;
    const uint16_t *above; /* where CUT, instead of both: (pixels, outputs), where these are zero so is the output */
    double *sums;          /* (threads, 2, filled outputs) of the output, where CUT of its products with `above` too, where MEASURED of its squares */
    uint16_t *output;      /* (pixels, outputs) */
    char *room;            /* of what all threads share */
} Product;

/* Plan it, and take the room for it; 0 where there is none. `bias` may be NULL. Afterwards, and in any case, `end_product`. */
int begin_product(Product *product, const float *bias);

/* A thread's share of what is not stacked: parts from `first` to before `last`. The tiles are configured for SIDE rows. */
void multiply_parts(const Product *product, int thread, long first, long last);

/* The sums of the output where asked for, and of its squares, (2, outputs); the room is given back. */
void end_product(Product *product, double *moments);

#endif
#endif
