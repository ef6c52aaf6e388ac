/* The gradient of a convolution's weights on matrix units, as gradients.c finds it, and backward.c part by part. */

#ifndef GRADIENTS_H
#define GRADIENTS_H

#include "tiles.h"

#ifdef MATRICES

typedef struct {
    Plan plan;
    const uint16_t *slopes;
    int stacked;       /* parts are stacks of BLOCK pictures */
    float *sums;       /* (threads, taps, outputs / SIDE, inputs / SIDE, SIDE, SIDE) */
    float *slope_sums; /* (threads, outputs, SIDE), to be added up */
} Gradient;

/* Plan it, and take the room for it; 0 where there is none. Afterwards, and in any case, `end_gradient`. */
int begin_gradient(Gradient *gradient);

/* A thread's share: parts from `first` to before `last`. The tiles are configured for SIDE rows. */
void learn_parts(const Gradient *gradient, int thread, long first, long last);

/* `of_weight`, (outputs, down, across, channels), and `of_bias`, (outputs): float32; the room is given back. */
void end_gradient(Gradient *gradient, float *of_weight, float *of_bias);

#endif
#endif
