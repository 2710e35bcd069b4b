// What the boundary (lrn_cuda.cpp) hands to the LRN kernels: plain numbers and pointers. No torch in it.
#pragma once

#include "scan_call.h"  // Dtype

namespace crnn {

// Passed to kernels by value. x, dy and out lie in memory alike.
struct LrnCall {
  const void *x, *dy;
  void *out, *ratios;  // ratios: of the computing type, as many as x has values; only where `needs_ratios`
  Dtype dtype;
  int64_t N, C, H, W;
  bool channels_last, within;
  int64_t size;
  double share, beta, k;  // s = k + share * sum of squares
  bool aligned;           // rows of channels begin at multiples of 16 bytes
};

// Kernels by name; "" takes the best that fits. Throws std::runtime_error where `variant` is unknown or does
// not fit. `backward` reads dy.
struct LrnVariant {
  const char* name;
  const char* (*misfit)(const LrnCall&);  // why it cannot run the call, or null
  bool needs_ratios;
  void (*run)(const LrnCall&, bool backward, void* stream);
};
extern const LrnVariant lrn_spans, lrn_plain;
constexpr const LrnVariant* kLrnVariants[] = {&lrn_spans, &lrn_plain};  // in order of preference

}  // namespace crnn
