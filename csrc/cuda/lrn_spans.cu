// Launches of lrn_spans.cuh.
#include "by_dtype.h"
#include "launch.h"
#include "lrn_spans.cuh"

namespace crnn {
namespace {

const char* misfit(const LrnCall& c) {
  if (c.within) return "normalises across channels";
  if (c.beta != 0.75) return "needs beta 0.75";
  if (c.size != 3 && c.size != 5) return "needs size 3 or 5";
  if (c.channels_last && !c.aligned) return "needs channels that begin at multiples of 16 bytes";
  return nullptr;
}

Grid grid(const LrnCall& c) {
  const int64_t positions = c.N * c.H * c.W;
  if (c.channels_last) {
    const int64_t spans = (c.C + kLrnRowSpan - 1) / kLrnRowSpan;
    return {(positions * spans + kLrnThreads - 1) / kLrnThreads, 1, kLrnThreads};
  }
  const int64_t spans = (c.C + kLrnPlaneSpan - 1) / kLrnPlaneSpan, most = kLrnThreads / 32;
  const int64_t warps = spans < most ? spans : most;
  return {(positions + 31) / 32, (spans + warps - 1) / warps, int(warps * 32)};
}

template <typename S, int kHalf, bool kRows>
void start(const LrnCall& c, bool backward, void* stream) {
  if (backward)
    launch("lrn_spans backward", lrn_spans_backward<S, kHalf, kRows>, grid(c), stream, c);
  else
    launch("lrn_spans", lrn_spans_forward<S, kHalf, kRows>, grid(c), stream, c);
}

void run(const LrnCall& c, bool backward, void* stream) {
  by_dtype(c.dtype, [&](auto s) {
    using S = decltype(s);
    const auto kernel = c.size == 3 ? (c.channels_last ? start<S, 1, true> : start<S, 1, false>)
                                    : (c.channels_last ? start<S, 2, true> : start<S, 2, false>);
    kernel(c, backward, stream);
  });
}

}  // namespace

const LrnVariant lrn_spans = {"spans", misfit, false, run};

}  // namespace crnn
