/* The threads of the OpenMP library that torch uses, so that there are not two crews on the same cores. passes.py hands its functions over. */

#ifndef CREW_H
#define CREW_H

#include <stdlib.h>

#define INLINE static inline __attribute__((always_inline))

/* Thread `thread` (from 0) of a crew does a job's parts from `first` to before `last`. */
typedef void Task(const void *job, int thread, long first, long last);

/* All parts of a job, shared by so many threads; returns when all are done. */
void share(Task *task, const void *job, long parts, int threads);

static inline long least(long one, long other) { return one < other ? one : other; }

/* In whole lines of the cache: a vector across two takes twice as long. */
static inline void *aligned(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

#endif
