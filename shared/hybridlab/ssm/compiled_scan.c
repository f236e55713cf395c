/* Mamba's and Mamba-2's scans as the recurrence that they are, and what stands before and behind them in a mixer; eight channels or
   states in a vector.

   All arrays are float32, contiguous, in the shapes of the Python functions beside this file; `state` is read and written in place.
   Tokens are taken in tiles, so that a tile's B and C stay in the first cache while all channels pass over them. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define W 8     /* floats in a vector */
#define TILE 64 /* tokens */
#define MOST 256 /* numbers of a channel's state, at most */

/* Compiled anew where a size is known: with the usual numbers of states the loops over them are unrolled, half as fast again. */
#define INLINE inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32)));
typedef int32_t i8 __attribute__((vector_size(32)));

static inline v8 all(float x) { return (v8){x, x, x, x, x, x, x, x}; }

static inline v8 load(const float *p, int n) {
    v8 v = {0};
    if (n == W) memcpy(&v, p, sizeof v); /* one instruction; a size that is not known is a call */
    else memcpy(&v, p, n * sizeof(float));
    return v;
}

static inline void store(float *p, v8 v, int n) {
    if (n == W) memcpy(p, &v, sizeof v);
    else memcpy(p, &v, n * sizeof(float));
}

/* exp of numbers of at most 0: 2^k · e^r with |r| at most ln 2 / 2, e^r by its series; below -87 it is taken at -87 (1.6e-38).
   NaN stays NaN. */
static inline v8 decay(v8 x) {
    const v8 low = all(-87.0f), magic = all(12582912.0f); /* 1.5 · 2^23: adding it rounds to a whole number */
#ifdef __AVX__
    x = __builtin_ia32_maxps256(low, x); /* of two the second, where one is NaN */
#else
    i8 below = x < low;
    x = (v8)(((i8)low & below) | ((i8)x & ~below));
#endif
    v8 k = x * 1.44269504f + magic;
    i8 power = (i8)k << 23;
    k -= magic;
    v8 r = x - k * 0.693359375f;
    r -= k * -2.12194440e-4f;
    v8 e = all(1.9875691500e-4f);
    e = e * r + 1.3981999507e-3f;
    e = e * r + 8.3334519073e-3f;
    e = e * r + 4.1665795894e-2f;
    e = e * r + 1.6666665459e-1f;
    e = e * r + 5.0000001201e-1f;
    e = e * r * r + r + 1.0f;
    return (v8)((i8)e + power);
}

/* x / (1 + e^-x), by the exponential of -|x| */
static inline v8 silu(v8 x) {
    i8 below = x < all(0);
    v8 e = decay((v8)((i8)x | (i8)all(-0.0f)));
    v8 top = (v8)(((i8)e & below) | ((i8)all(1) & ~below));
    return x * top / (e + 1.0f);
}

static inline float total(v8 v) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }

/* y = ln(1 + e^x) = max(x, 0) + ln(1 + z) with z = e^-|x|, and ln(1 + z) = 2 artanh(z / (2 + z)) by its series */
void softplus(const float *x, float *y, int64_t count) {
    for (int64_t i = 0; i < count; i += W) {
        int n = count - i < W ? (int)(count - i) : W;
        v8 v = load(x + i, n);
        i8 below = v < all(0);
        v8 z = decay((v8)((i8)v | (i8)all(-0.0f))), s = z / (z + 2.0f), q = s * s, series = all(1.0f / 15);
        for (int k = 13; k > 0; k -= 2) series = series * q + 1.0f / k;
        store(y + i, (v8)((i8)v & ~below) + 2.0f * s * series, n);
    }
}

/* SiLU of the convolution over time. x: (time, D), `stride` numbers from row to row; weight: (K, D); bias: (D); past: (K - 1, D), what stood
   before x; y: (time, D) */
void conv_silu(const float *x, const float *weight, const float *bias, const float *past, float *y, int64_t time, int64_t D, int64_t K,
               int64_t stride) {
    for (int64_t t = 0; t < time; t++)
        for (int64_t d = 0; d < D; d += W) {
            int n = D - d < W ? (int)(D - d) : W;
            v8 sum = all(0);
            for (int64_t k = 0; k < K; k++) {
                int64_t at = t + k - (K - 1);
                sum += load(weight + k * D + d, n) * load((at < 0 ? past + (at + K - 1) * D : x + at * stride) + d, n);
            }
            store(y + t * D + d, silu(sum + load(bias + d, n)), n);
        }
}

/* out = (y + D x) SiLU(gate); where there is a weight (C), then the RMSNorm of each group of channels. y, out: (time, C); D: (C); x, gate:
   (time, C), their strides from row to row */
void skip_and_gate(const float *y, const float *x, const float *D, const float *gate, const float *weight, float *out, int64_t time, int64_t C,
                   int64_t x_stride, int64_t gate_stride, int64_t groups, float eps) {
    int64_t size = C / groups;
    for (int64_t t = 0; t < time; t++)
        for (int64_t begin = 0; begin < C; begin += size) {
            v8 squares = all(0);
            for (int64_t c = begin; c < begin + size; c += W) {
                int n = begin + size - c < W ? (int)(begin + size - c) : W;
                v8 v = (load(y + t * C + c, n) + load(D + c, n) * load(x + t * x_stride + c, n)) * silu(load(gate + t * gate_stride + c, n));
                store(out + t * C + c, v, n);
                squares += v * v;
            }
            if (!weight) continue;
            v8 scale = all(1.0f / sqrtf(total(squares) / size + eps));
            for (int64_t c = begin; c < begin + size; c += W) {
                int n = begin + size - c < W ? (int)(begin + size - c) : W;
                store(out + t * C + c, load(out + t * C + c, n) * scale * load(weight + c, n), n);
            }
        }
}

/* x, dt, y: (time, D); A: (D, N); B, C: (time, N); state: (D, N) */
static INLINE void scan(const float *x, const float *dt, const float *A, const float *B, const float *C, float *state, float *y,
                    int64_t time, int64_t D, int64_t N) {
    for (int64_t begin = 0; begin < time; begin += TILE) {
        int64_t end = begin + TILE < time ? begin + TILE : time;
        for (int64_t d = 0; d < D; d += W) {
            int n = D - d < W ? (int)(D - d) : W;
            v8 a[MOST], h[MOST];
            for (int64_t s = 0; s < N; s++) {
                a[s] = h[s] = all(0);
                for (int c = 0; c < n; c++) a[s][c] = A[(d + c) * N + s], h[s][c] = state[(d + c) * N + s];
            }
            for (int64_t t = begin; t < end; t++) {
                v8 step = load(dt + t * D + d, n), enters = step * load(x + t * D + d, n), sum = all(0);
                const float *b = B + t * N, *c = C + t * N;
                for (int64_t s = 0; s < N; s++) {
                    h[s] = decay(step * a[s]) * h[s] + enters * b[s];
                    sum += h[s] * c[s];
                }
                store(y + t * D + d, sum, n);
            }
            for (int64_t s = 0; s < N; s++)
                for (int c = 0; c < n; c++) state[(d + c) * N + s] = h[s][c];
        }
    }
}


void selective_scan(const float *x, const float *dt, const float *A, const float *B, const float *C, float *state, float *y,
                    int64_t time, int64_t D, int64_t N) {
    if (N == 16) scan(x, dt, A, B, C, state, y, time, D, 16);
    else scan(x, dt, A, B, C, state, y, time, D, N);
}

/* x, y: (time, H, P); dt: (time, H); A: (H); B, C: (time, G, N), N a multiple of 8; state: (H, P, N); of x, B and C the numbers from one
   token to the next are given: they may be cut out of one array */
static INLINE void heads(const float *x, const float *dt, const float *A, const float *B, const float *C, float *state, float *y, int64_t time, int64_t H,
         int64_t P, int64_t G, int64_t N, int64_t x_step, int64_t B_step, int64_t C_step) {
    int64_t vectors = N / W;
    for (int64_t begin = 0; begin < time; begin += TILE) {
        int64_t end = begin + TILE < time ? begin + TILE : time;
        for (int64_t head = 0; head < H; head++) {
            int64_t group = head / (H / G);
            float decays[TILE];
            for (int64_t t = begin; t < end; t++) decays[t - begin] = decay(all(dt[t * H + head] * A[head]))[0];
            for (int64_t p = 0; p < P; p++) {
                float *row = state + (head * P + p) * N;
                v8 h[MOST / W];
                memcpy(h, row, N * sizeof(float));
                for (int64_t t = begin; t < end; t++) {
                    float enters = dt[t * H + head] * x[t * x_step + head * P + p], keeps = decays[t - begin];
                    const float *b = B + t * B_step + group * N, *c = C + t * C_step + group * N;
                    v8 sum = all(0);
                    for (int64_t v = 0; v < vectors; v++) {
                        h[v] = h[v] * keeps + load(b + v * W, W) * enters;
                        sum += h[v] * load(c + v * W, W);
                    }
                    y[(t * H + head) * P + p] = total(sum);
                }
                memcpy(row, h, N * sizeof(float));
            }
        }
    }
}

void ssd(const float *x, const float *dt, const float *A, const float *B, const float *C, float *state, float *y, int64_t time, int64_t H,
         int64_t P, int64_t G, int64_t N, int64_t x_step, int64_t B_step, int64_t C_step) {
    if (N == 64) heads(x, dt, A, B, C, state, y, time, H, P, G, 64, x_step, B_step, C_step);
    else if (N == 128) heads(x, dt, A, B, C, state, y, time, H, P, G, 128, x_step, B_step, C_step);
    else heads(x, dt, A, B, C, state, y, time, H, P, G, N, x_step, B_step, C_step);
}
