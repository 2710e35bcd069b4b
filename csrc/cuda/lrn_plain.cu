// lrn_plain: normalisation of any window, region, beta and order of memory, written to be read.
//
//   work     a thread: one value; it reads its whole window
//   memory   backward in two launches: ratio = dy x s^-(beta+1) of every value, then dx
//   sync     none
//   needs    nothing
//   cost     a window of reads, most of them from cache, per value; two in backward
#include "../core/lrn_power.h"
#include "by_dtype.h"
#include "launch.h"
#include "lrn_call.h"

namespace crnn {
namespace {

constexpr int kThreads = 256;

// The value a thread is at: its axes and its place in memory.
struct LrnValue {
  int64_t at, channel, row, column;
};

CRNN_DEVICE LrnValue value_of(const LrnCall& c, int64_t at) {
  return c.channels_last ? LrnValue{at, at % c.C, at / (c.C * c.W) % c.H, at / c.C % c.W}
                         : LrnValue{at, at / (c.H * c.W) % c.C, at / c.W % c.H, at % c.W};
}

// The sum of visit(place in memory) over the window of v.
template <typename T, typename Visit>
CRNN_DEVICE T window_sum(const LrnCall& c, const LrnValue& v, Visit&& visit) {
  const int64_t half = c.size / 2, step = c.channels_last ? c.C : 1,
                channel = c.channels_last ? 1 : c.H * c.W;
  T sum = 0;
  if (!c.within) {
    for (int64_t i = -half; i <= half; ++i)
      if (v.channel + i >= 0 && v.channel + i < c.C) sum += visit(v.at + i * channel);
    return sum;
  }
  for (int64_t i = -half; i <= half; ++i)
    for (int64_t j = -half; j <= half; ++j)
      if (v.row + i >= 0 && v.row + i < c.H && v.column + j >= 0 && v.column + j < c.W)
        sum += visit(v.at + (i * c.W + j) * step);
  return sum;
}

template <typename T, typename S>
CRNN_DEVICE LrnPower<T> power_at(const LrnCall& c, const LrnValue& v) {
  const S* x = static_cast<const S*>(c.x);
  const T sum = window_sum<T>(c, v, [&](int64_t at) { return widen<T>(x[at]) * widen<T>(x[at]); });
  const T s = T(c.k) + T(c.share) * sum;
  return c.beta == 0.75 ? lrn_power<true>(s, T(c.beta)) : lrn_power<false>(s, T(c.beta));
}

enum class Pass { kForward, kRatios, kBackward };

template <typename S, Pass kPass>
CRNN_KERNEL(kThreads, 1)
lrn_plain_kernel(LrnCall c) {
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  const int64_t at = int64_t(device::block_x()) * kThreads + device::thread();
  if (at >= c.N * c.C * c.H * c.W) return;
  const LrnValue v = value_of(c, at);
  const LrnPower<T> power = power_at<T, S>(c, v);
  const T x = widen<T>(static_cast<const S*>(c.x)[at]);
  T* ratios = static_cast<T*>(c.ratios);
  if constexpr (kPass == Pass::kForward) {
    static_cast<S*>(c.out)[at] = narrow<S>(x * power.factor);
  } else if constexpr (kPass == Pass::kRatios) {
    ratios[at] = widen<T>(static_cast<const S*>(c.dy)[at]) * x * power.slope;
  } else {
    const T dy = widen<T>(static_cast<const S*>(c.dy)[at]);
    const T sum = window_sum<T>(c, v, [&](int64_t other) { return ratios[other]; });
    static_cast<S*>(c.out)[at] = narrow<S>(dy * power.factor - T(2 * c.share * c.beta) * x * sum);
  }
}

const char* misfit(const LrnCall&) {
  return nullptr;
}

void run(const LrnCall& c, bool backward, void* stream) {
  const Grid grid{(c.N * c.C * c.H * c.W + kThreads - 1) / kThreads, 1, kThreads};
  by_dtype(c.dtype, [&](auto s) {
    using S = decltype(s);
    if (!backward) return launch("lrn_plain", lrn_plain_kernel<S, Pass::kForward>, grid, stream, c);
    launch("lrn_plain ratios", lrn_plain_kernel<S, Pass::kRatios>, grid, stream, c);
    launch("lrn_plain backward", lrn_plain_kernel<S, Pass::kBackward>, grid, stream, c);
  });
}

}  // namespace

const LrnVariant lrn_plain = {"plain", misfit, true, run};

}  // namespace crnn
