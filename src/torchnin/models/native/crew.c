#include "crew.h"

typedef struct {
    Task *task;
    const void *job;
    long parts;
} Work;

static void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
static int (*thread_number)(void);
static int (*number_of_threads)(void);

/* GOMP_parallel, omp_get_thread_num and omp_get_num_threads. */
void set_up(void *of_parallel, void *of_thread_number, void *of_number_of_threads) {
    parallel = (void (*)(void (*)(void *), void *, unsigned, unsigned))of_parallel;
    thread_number = (int (*)(void))of_thread_number;
    number_of_threads = (int (*)(void))of_number_of_threads;
}

static void take_part(void *of_work) {
    const Work *work = of_work;
    long thread = thread_number(), threads = number_of_threads();
    work->task(work->job, (int)thread, work->parts * thread / threads, work->parts * (thread + 1) / threads);
}

void share(Task *task, const void *job, long parts, int threads) {
    Work work = {task, job, parts};
    if (threads > 1 && parts > 1)
        parallel(take_part, &work, (unsigned)threads, 0);
    else
        task(job, 0, 0, parts);
}
