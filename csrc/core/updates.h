// Caffe's update rules: what one value of a blob does, shared by every compiled backend.
//
// `step` moves the rule's histories h[] and returns what is subtracted from the blob. g is the gradient with
// weight decay in it, c[] the rule's numbers, in the order of its comment. To add a rule: a struct here, its
// torch twin in crnn/ops/update_reference.py, its name in `Rules`.
#pragma once

#include <cmath>

#include "cells.h"

namespace crnn {

struct SgdRule {  // c: momentum.  v <- c v + rate g; W <- W - v
  static constexpr std::string_view kName = "SGD";
  static constexpr int kHistories = 1, kNumbers = 1;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    return h[0] = c[0] * h[0] + rate * g;
  }
};

struct NesterovRule {  // c: momentum.  v' = c v + rate g; W <- W - ((1 + c) v' - c v)
  static constexpr std::string_view kName = "Nesterov";
  static constexpr int kHistories = 1, kNumbers = 1;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    const T before = h[0];
    h[0] = c[0] * before + rate * g;
    return (T(1) + c[0]) * h[0] - c[0] * before;
  }
};

struct AdaGradRule {  // c: delta.  h <- h + g^2; W <- W - rate g / (sqrt(h) + delta)
  static constexpr std::string_view kName = "AdaGrad";
  static constexpr int kHistories = 1, kNumbers = 1;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    h[0] += g * g;
    return rate * g / (std::sqrt(h[0]) + c[0]);
  }
};

struct RmsPropRule {  // c: keep, delta.  h <- keep h + (1 - keep) g^2; W as AdaGrad
  static constexpr std::string_view kName = "RMSProp";
  static constexpr int kHistories = 1, kNumbers = 2;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    h[0] = c[0] * h[0] + (T(1) - c[0]) * g * g;
    return rate * g / (std::sqrt(h[0]) + c[1]);
  }
};

// c: keep, delta.  h1 <- keep h1 + (1 - keep) g^2; d = g sqrt((h2 + delta) / (h1 + delta));
// h2 <- keep h2 + (1 - keep) d^2; W <- W - rate d
struct AdaDeltaRule {
  static constexpr std::string_view kName = "AdaDelta";
  static constexpr int kHistories = 2, kNumbers = 2;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    h[0] = c[0] * h[0] + (T(1) - c[0]) * g * g;
    const T d = g * std::sqrt((h[1] + c[1]) / (h[0] + c[1]));
    h[1] = c[0] * h[1] + (T(1) - c[0]) * d * d;
    return rate * d;
  }
};

// c: beta1, beta2, delta.  m, v: running means of g and g^2; W <- W - rate m / (sqrt(v) + delta); the rate
// has the bias correction in it
struct AdamRule {
  static constexpr std::string_view kName = "Adam";
  static constexpr int kHistories = 2, kNumbers = 3;

  template <typename T>
  CRNN_HD static T step(T g, T rate, const T* c, T* h) {
    h[0] = c[0] * h[0] + (T(1) - c[0]) * g;
    h[1] = c[1] * h[1] + (T(1) - c[1]) * g * g;
    return rate * h[0] / (std::sqrt(h[1]) + c[2]);
  }
};

using Rules = CellList<SgdRule, NesterovRule, AdaGradRule, RmsPropRule, AdaDeltaRule, AdamRule>;
constexpr int kMaxHistories = 2, kMaxNumbers = 3;

// What weight decay adds to the gradient, times decay.
enum class Regularizer { kNone, kL2, kL1 };

// One value of a blob: gradient, weight decay, rule. Returns the value that replaces w.
template <typename Rule, Regularizer kind, typename T>
CRNN_HD T updated(T w, T g, T scale, T decay, T rate, const T* c, T* h) {
  g *= scale;
  if constexpr (kind == Regularizer::kL2) g += decay * w;
  if constexpr (kind == Regularizer::kL1) g += decay * T((w > T(0)) - (w < T(0)));
  return w - Rule::step(g, rate, c, h);
}

}  // namespace crnn
