// s^-beta of local response normalisation, for every backend.
#pragma once

#include <cmath>

#include "plan.h"

namespace crnn {

template <typename T>
struct LrnPower {
  T factor, slope;  // s^-beta and s^-(beta + 1)
};

template <typename T>
CRNN_HD T inverse_root(T s) {
#if defined(__CUDA_ARCH__)
  return rsqrt(s);  // one instruction and its correction, where a division and a root are some twenty
#else
  return T(1) / std::sqrt(s);
#endif
}

// kThreeQuarters: beta is 0.75, the default of Caffe and of every net of its zoo; two square roots do it.
template <bool kThreeQuarters, typename T>
CRNN_HD LrnPower<T> lrn_power(T s, T beta) {
  if constexpr (kThreeQuarters) {
    const T root = inverse_root(s), factor = root * std::sqrt(root);
    return {factor, factor * root * root};
  } else {
    const T factor = std::pow(s, -beta);
    return {factor, factor / s};
  }
}

}  // namespace crnn
