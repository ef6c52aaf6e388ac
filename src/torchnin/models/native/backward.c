/* The way back through a 1x1 convolution, in bfloat16 on matrix units (AMX): the gradients of its weights and of what came in, part by part,
 * so that what came in and the slopes are read from memory once.
 */

#include "gradients.h"
#include "products.h"

#ifdef MATRICES

typedef struct {
    Gradient gradient;
    Product product;
} Way;

static void go_back(const void *of_way, int thread, long first, long last) {
    const Way *way = of_way;
    configure(SIDE, SIDE);
    for (long part = first; part < last; part++) {
        learn_parts(&way->gradient, thread, part, part + 1); /* first, for it reads line by line */
        multiply_parts(&way->product, thread, part, part + 1);
    }
    _tile_release();
}

/* What `weight_gradient` and `input_gradient` give, of a 1x1 convolution `of` which this is said. `kernel`: (outputs, channels). `relu`:
 * whether the pictures were made by a ReLU, so that `output` is the gradient in front of that, with its `moments`, (2, channels), which see
 * at `input_gradient`. 0, or 1 where memory did not suffice. */
int all_gradients(const Convolution *of, const void *pictures, const void *slopes, const uint16_t *kernel, int relu, double *moments,
                  uint16_t *output, float *of_weight, float *of_bias) {
    Convolution back = *of;
    back.channels = of->outputs;
    back.outputs = of->channels;
    Way way = {
        .gradient = {.plan = plan_for(of), .slopes = slopes},
        .product = {.plan = plan_for(&back), .weights = kernel, .backward = 1, .kind = relu ? CUT : PLAIN, .above = pictures, .output = output},
    };
    way.gradient.plan.pictures = pictures;
    way.product.plan.pictures = slopes;
    int begun = begin_gradient(&way.gradient) & begin_product(&way.product, NULL);
    if (begun) share(go_back, &way, way.gradient.plan.parts, of->threads);
    end_gradient(&way.gradient, of_weight, of_bias);
    end_product(&way.product, moments);
    return !begun;
}

#endif
