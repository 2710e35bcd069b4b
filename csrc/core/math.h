// exp, sigmoid and tanh as plain arithmetic in float, so that a compiler turns a loop over channels into
// vector code; in double the library's. Errors in float: below 2 ulp for exp, below 3 ulp for the others.
#pragma once

#include <cmath>
#include <cstdint>

#include "plan.h"

namespace crnn {

// e^x: x = n ln 2 + r, |r| <= ln 2 / 2, e^r by its Taylor series, 2^n by its bits. NaN stays NaN.
CRNN_HD float exp_of(float x) {
  constexpr float kLog2e = 1.44269504f, kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  constexpr float kLargest = 87.3365402f;  // of |x|: what is beyond would leave the normal numbers
  constexpr float kRound = 12582912.0f;    // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const float size = fabsf(x);
  x = copysignf(kLargest < size ? kLargest : size, x);  // one choice, not one of three: a single instruction
  const float shifted = x * kLog2e + kRound, n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  float e = 1.0f / 5040;
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = (e * r * r + r) + 1.0f;
  const uint32_t exponent = __builtin_bit_cast(uint32_t, shifted) << 23;  // n, wherever its high bits went
  return e * __builtin_bit_cast(float, exponent + 0x3F800000u);
}
CRNN_HD double exp_of(double x) {
  return std::exp(x);
}

template <typename T>
CRNN_HD T sigmoid(T x) {
  return T(1) / (T(1) + exp_of(-x));
}

// 1 - 2 / (e^2|x| + 1); near 0, where that cancels, x times a polynomial in x^2.
CRNN_HD float tanh_of(float x) {
  const float size = fabsf(x), y = x * x;
  float near = -5.70498872745e-3f;
  near = near * y + 2.06390887954e-2f;
  near = near * y - 5.37397155531e-2f;
  near = near * y + 1.33314422036e-1f;
  near = near * y - 3.33332819422e-1f;
  near = near * y * x + x;
  const float far = 1.0f - 2.0f / (exp_of(2.0f * size) + 1.0f);
  return size < 0.625f ? near : (x < 0.0f ? -far : far);  // copysignf spills a kernel on CUDA
}
CRNN_HD double tanh_of(double x) {
  return std::tanh(x);
}

}  // namespace crnn
