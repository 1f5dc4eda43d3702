/* The loop of product_loops.py for CPUs: the same operations on every element, in registers.

   The rounding, and why nothing changes where the compiler contracts an operation with the one before, are explained
   there. Subnormal numbers may be flushed or not: none of them reaches a result.

   Operands: left [batch, k, m], right [batch, k, n], bounds [chunks] and {scale, least, largest, chunk, threads}, all
   float32. Results: the sums [batch, m, n] in float32, and one uint32 that is 1 where they are right. */

#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#include "xla/ffi/api/c_api.h"

enum { LANES = 16, ROWS = 4, VECTORS = 4, COLUMNS = LANES * VECTORS };

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
  const float *left, *right, *bounds;
  float *result;
  int64_t batch, k, m, n, chunk;
  float scale, least, largest;
  int64_t first, last; /* which strips of columns, over all members of the batch */
  int right_everywhere;
  int out_of_memory;
} Work;

static inline Floats all(float x) { return x - (Floats){0}; }

static inline Floats with_bits(Ints bits) {
  Floats x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static inline Ints bits_of(Floats x) {
  Ints bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

/* The larger magnitude, with the sign of the first; none is NaN. */
static inline Floats at_least(Floats x, Floats least) {
#ifdef __AVX512DQ__
  return (Floats)_mm512_range_ps((__m512)x, (__m512)least, 3);
#else
  const Ints magnitude = bits_of(x) & INT32_MAX, more = magnitude > bits_of(least);
  return with_bits((magnitude & more) | (bits_of(least) & ~more) | (bits_of(x) & INT32_MIN));
#endif
}

/* A magnitude of the sign of another number, or a zero, made to have that sign. */
static inline Floats with_sign(Floats x, Floats of) {
#ifdef __AVX512DQ__
  return (Floats)_mm512_ternarylogic_epi32((__m512i)x, (__m512i)of, _mm512_set1_epi32(INT32_MIN), 0xf8);
#else
  return with_bits(bits_of(x) | (bits_of(of) & INT32_MIN));
#endif
}

/* KIND 0: products and sums in float32 as it is; 1: rounded; 2: products may be subnormal in the format. */
#define STEP(KIND)                                                                                     \
  for (int64_t i = from; i < to; i++) {                                                                \
    Floats b[VECTORS];                                                                                 \
    for (int v = 0; v < VECTORS; v++) memcpy(&b[v], panel + i * COLUMNS + v * LANES, sizeof b[v]);     \
    for (int u = 0; u < ROWS; u++) {                                                                   \
      const float one = rows[i * ROWS + u];                                                            \
      const Floats a = all(one), scaled = all(one * work->scale);                                      \
      for (int v = 0; v < VECTORS; v++) {                                                              \
        Floats x = a * b[v];                                                                           \
        if (KIND == 1) {                                                                               \
          Floats h = scaled * b[v];                                                                    \
          x = h - (h - x);                                                                             \
        } else if (KIND == 2) {                                                                        \
          Floats h = at_least(scaled * b[v], least);                                                   \
          x = with_sign(h - (h - x), h);                                                               \
        }                                                                                              \
        x = total[u][v] + x;                                                                           \
        if (KIND) {                                                                                    \
          Floats h = x * scale;                                                                        \
          x = h - (h - x);                                                                             \
        }                                                                                              \
        total[u][v] = x;                                                                               \
      }                                                                                                \
    }                                                                                                  \
  }

/* ROWS x COLUMNS sums, from packed operands. */
static int tile(const Work *work, const float *rows, const float *panel, float *out) {
  Floats total[ROWS][VECTORS];
  const Floats scale = all(work->scale), least = all(work->least);
  int good = 1;
  for (int u = 0; u < ROWS; u++)
    for (int v = 0; v < VECTORS; v++) total[u][v] = all(-0.0f);
  for (int64_t from = 0, chunk = 0; from < work->k; from += work->chunk, chunk++) {
    const int64_t to = from + work->chunk < work->k ? from + work->chunk : work->k;
    float peak = 0;
    for (int u = 0; u < ROWS; u++)
      for (int v = 0; v < VECTORS; v++)
        for (int l = 0; l < LANES; l++) {
          const float size = fabsf(total[u][v][l]);
          peak = size > peak ? size : peak;
        }
    good &= peak + work->bounds[chunk] <= work->largest;
    if (work->scale == 1) {
      STEP(0)
    } else if (work->least == 0) {
      STEP(1)
    } else {
      STEP(2)
    }
  }
  for (int u = 0; u < ROWS; u++)
    for (int v = 0; v < VECTORS; v++) memcpy(out + u * COLUMNS + v * LANES, &total[u][v], sizeof(Floats));
  return good;
}

static void *strips(void *argument) {
  Work *work = argument;
  const int64_t k = work->k, m = work->m, n = work->n, across = (n + COLUMNS - 1) / COLUMNS;
  float *panel = malloc(sizeof(float) * (size_t)(k * (COLUMNS + ROWS) + ROWS * COLUMNS));
  if (panel == NULL) {
    work->out_of_memory = 1;
    return NULL;
  }
  float *rows = panel + k * COLUMNS, *out = rows + k * ROWS;
  work->right_everywhere = 1;
  for (int64_t strip = work->first; strip < work->last; strip++) {
    const int64_t member = strip / across, column = strip % across * COLUMNS;
    const int64_t width = n - column < COLUMNS ? n - column : COLUMNS;
    const float *right = work->right + member * k * n + column, *left = work->left + member * k * m;
    memset(panel, 0, sizeof(float) * (size_t)(k * COLUMNS));
    for (int64_t i = 0; i < k; i++) memcpy(panel + i * COLUMNS, right + i * n, sizeof(float) * (size_t)width);
    for (int64_t row = 0; row < m; row += ROWS) {
      const int64_t height = m - row < ROWS ? m - row : ROWS;
      for (int64_t i = 0; i < k; i++)
        for (int64_t u = 0; u < ROWS; u++) rows[i * ROWS + u] = u < height ? left[i * m + row + u] : 0;
      work->right_everywhere &= tile(work, rows, panel, out);
      for (int64_t u = 0; u < height; u++)
        memcpy(work->result + (member * m + row + u) * n + column, out + u * COLUMNS, sizeof(float) * (size_t)width);
    }
  }
  free(panel);
  return NULL;
}

enum { MOST_THREADS = 64 };

static int run(Work *whole, int64_t threads) {
  const int64_t count = whole->batch * ((whole->n + COLUMNS - 1) / COLUMNS);
  Work parts[MOST_THREADS];
  pthread_t others[MOST_THREADS];
  int started[MOST_THREADS];
  threads = threads > count ? count : threads;
  threads = threads > MOST_THREADS ? MOST_THREADS : threads;
  for (int64_t i = 0; i < threads; i++) {
    parts[i] = *whole;
    parts[i].first = count * i / threads;
    parts[i].last = count * (i + 1) / threads;
  }
  for (int64_t i = 1; i < threads; i++) started[i] = pthread_create(&others[i], NULL, strips, &parts[i]) == 0;
  strips(&parts[0]);
  int good = 1;
  for (int64_t i = 0; i < threads; i++) {
    if (i && started[i])
      pthread_join(others[i], NULL);
    else if (i)
      strips(&parts[i]);
    good &= parts[i].right_everywhere && !parts[i].out_of_memory;
  }
  return good;
}

XLA_FFI_Error *precond_lab_product_loop(XLA_FFI_CallFrame *frame) {
  if (frame->extension_start != NULL && frame->extension_start->type == XLA_FFI_Extension_Metadata) {
    XLA_FFI_Metadata *metadata = ((XLA_FFI_Metadata_Extension *)frame->extension_start)->metadata;
    metadata->api_version.major_version = XLA_FFI_API_MAJOR;
    metadata->api_version.minor_version = XLA_FFI_API_MINOR;
    return NULL;
  }
  XLA_FFI_Buffer *left = frame->args.args[0], *right = frame->args.args[1], *bounds = frame->args.args[2];
  const float *numbers = ((XLA_FFI_Buffer *)frame->args.args[3])->data;
  Work work = {
      .left = left->data,
      .right = right->data,
      .bounds = bounds->data,
      .result = ((XLA_FFI_Buffer *)frame->rets.rets[0])->data,
      .batch = left->dims[0],
      .k = left->dims[1],
      .m = left->dims[2],
      .n = right->dims[2],
      .scale = numbers[0],
      .least = numbers[1],
      .largest = numbers[2],
      .chunk = numbers[3] > 0 ? (int64_t)numbers[3] : left->dims[1],
  };
  uint32_t *good = ((XLA_FFI_Buffer *)frame->rets.rets[1])->data;
  *good = (uint32_t)run(&work, (int64_t)numbers[4]);
  return NULL;
}
