// The steps of a scan that goes step by step over all chains, as scan_gemm and scan_gemm_relu do: which
// directions go together, and where each of them is. Local time i counts from a segment's end that the pass
// begins at: forward from its first step, backward from its last.
#pragma once

#include <algorithm>
#include <cstdint>

#include "scan_call.h"

namespace crnn {

// A direction at a step: positions in its segment 0; segment g's lie g * line further.
struct GemmPlace {
  int64_t now, before, next;  // of the step, the one before it, the one after it (-1: none)
  int64_t line, segments;     // segments is 0 where the direction has no such step
  int64_t continued;          // the first segment whose step continues from `before`
};

inline Segments segments_of(const Direction& d, bool backward) {
  return backward ? d.gradient_segments() : d.value_segments();
}

inline GemmPlace place_of(const Direction& d, bool backward, int64_t i) {
  const Segments s = segments_of(d, backward);
  const int64_t t = backward ? s.steps - 1 - i : i;
  if (i >= s.steps) return {};
  GemmPlace at{};
  at.now = d.position(t), at.segments = s.count, at.line = s.count > 1 ? d.line_stride : 0;
  at.before = t > 0 ? d.position(t - 1) : d.position(d.length - 1) - d.line_stride;
  at.next = t + 1 < s.steps ? d.position(t + 1) : -1;
  at.continued = t > 0 ? 0 : !backward || d.line_break == LineBreak::kReset ? INT64_MAX : 1;
  return at;
}

// Some directions of a launch, taken together: buffers have `chains` rows for each, whatever it needs.
template <typename Call>
struct GemmBatch {
  Call call;
  int directions;
  int64_t steps, chains;
};

// Most rows, steps times chains, that a direction of a batch comes to.
constexpr int64_t most_rows(const ScanProblem& q) {
  return std::min(q.steps * q.chains, 2 * q.P * q.N);
}

// Cuts a launch into batches. All its directions go together if that at most doubles the rows, as for a map
// of any usual shape; else those in a row that are alike do.
template <typename Call, typename Run>
void each_batch(const Call& call, int directions, bool backward, Run&& run) {
  const auto segments = [&](int i) { return segments_of(call.plan[i], backward); };
  GemmBatch<Call> all{call, directions, 0, 0};
  for (int i = 0; i < directions; ++i) {
    all.steps = std::max(all.steps, segments(i).steps);
    all.chains = std::max(all.chains, segments(i).count * call.N);
  }
  if (all.steps * all.chains <= 2 * call.P * call.N) return run(all);
  for (int first = 0, end; first < directions; first = end) {
    for (end = first + 1; end < directions && segments(end).steps == segments(first).steps;) ++end;
    GemmBatch<Call> some{call, end - first, segments(first).steps, segments(first).count * call.N};
    std::copy(call.plan + first, call.plan + end, some.call.plan);
    some.call.first_k = call.first_k + first;
    run(some);
  }
}

// Cuts a call's scratch into parts, each at a multiple of 256 bytes. From null it counts the bytes.
class Scratch {
 public:
  explicit Scratch(void* base) : at_(reinterpret_cast<uintptr_t>(base)) {}
  void* take(int64_t bytes) {
    const uintptr_t part = at_;
    at_ += uintptr_t(bytes + 255) / 256 * 256;
    return reinterpret_cast<void*>(part);
  }
  int64_t taken() const { return int64_t(at_); }

 private:
  uintptr_t at_;
};

// The power of two, at most 256, that divides an address or a number of bytes.
inline int64_t alignment_of(uintptr_t bytes) {
  bytes |= 256;
  return int64_t(bytes & -bytes);
}
inline int64_t alignment_of(const void* address) {
  return alignment_of(reinterpret_cast<uintptr_t>(address));
}

}  // namespace crnn
