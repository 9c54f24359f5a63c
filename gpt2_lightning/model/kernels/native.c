/* GELU in the tanh approximation and its gradient, one pass over memory each.
 *
 *   gelu(x) = x * (1 + tanh(u)) / 2 = x * sigmoid(2u)  with  2u = x * (A + B * x^2),
 *   gelu'(x) = s + x * s * (1 - s) * (A + 3 * B * x^2)  with  s = sigmoid(2u).
 */

static const float A = 1.5957691216057308f;  /* 2 * sqrt(2 / pi) */
static const float B = 0.07135481627260025f; /* A * 0.044715 */
static const long PARALLEL = 32768;          /* elements from which threads pay */

/* e^x to 2e-7, in operations that every compiler vectorizes: 2^n times a Taylor polynomial, |r| <= ln(2) / 2. */
static inline float exponential(float x) {
    x = x > 87.0f ? 87.0f : x;
    x = x < -87.0f ? -87.0f : x;
    union { float value; int bits; } power;
    power.value = x * 1.4426950408889634f + 12582912.0f; /* the integer n is in the lowest bits of the mantissa */
    float n = power.value - 12582912.0f;
    float r = x - n * 0.693359375f + n * 2.12194440e-4f; /* x - n * ln(2) */
    power.bits = (power.bits + 127) << 23;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 1.0f / 2;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * power.value;
}

static inline float sigmoid(float x) {
    return 1.0f / (1.0f + exponential(-x));
}

/* y = gelu(x) for n numbers */
void gelu(const float *restrict x, float *restrict y, long n) {
#pragma omp parallel for simd schedule(static) if (n > PARALLEL)
    for (long i = 0; i < n; i++)
        y[i] = x[i] * sigmoid(x[i] * (A + B * x[i] * x[i]));
}

/* of_x = of_y * gelu'(x) for n numbers */
void gelu_backward(const float *restrict of_y, const float *restrict x, float *restrict of_x, long n) {
#pragma omp parallel for simd schedule(static) if (n > PARALLEL)
    for (long i = 0; i < n; i++) {
        float square = x[i] * x[i];
        float s = sigmoid(x[i] * (A + B * square));
        of_x[i] = of_y[i] * (s + x[i] * s * (1.0f - s) * (A + 3 * B * square));
    }
}
