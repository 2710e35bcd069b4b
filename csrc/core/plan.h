// A scan plan: which positions a direction visits, in which order, and what crosses a line break.
//
// A direction walks P = lines * length positions of a feature map:
//     position(s) = origin + (s / length) * line_stride + (s % length) * step_stride
// Four image directions, and any other order made of equal straight lines, differ in these numbers only.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define CRNN_HD __host__ __device__ __forceinline__
#else
#define CRNN_HD inline __attribute__((always_inline))
#endif

namespace crnn {

// What the first step of a new line inherits from the last step of the line before.
enum class LineBreak : int64_t {
  kCarry = 0,       // value and gradient: one sequence of P steps
  kCarryValue = 1,  // the value, not the gradient: truncated BPTT
  kReset = 2,       // nothing: every line is its own sequence
};

// The steps that a direction is cut into: `count` segments of `steps` consecutive steps each.
struct Segments {
  int64_t count, steps;
};

struct Direction {
  static constexpr int kFields = 6;  // ints per direction in the op's `plan` argument
  int64_t origin, length, step_stride, lines, line_stride;
  LineBreak line_break;

  CRNN_HD int64_t steps() const { return lines * length; }
  CRNN_HD int64_t position(int64_t s) const {
    return origin + (s / length) * line_stride + (s % length) * step_stride;
  }
  // Whether no position is visited twice, where all lie on the map: neighbours in a line or across lines, and
  // steps as long as what lies between.
  bool visits_all() const {
    const auto is = [](int64_t count, int64_t stride, int64_t wanted) {
      return count == 1 || stride == wanted || stride == -wanted;
    };
    return (is(length, step_stride, 1) && is(lines, line_stride, length)) ||
           (is(lines, line_stride, 1) && is(length, step_stride, lines));
  }
  // Segments that no value enters: they start from `initial`. Forward works on them in parallel.
  CRNN_HD Segments value_segments() const {
    return line_break == LineBreak::kReset ? Segments{lines, length} : Segments{1, steps()};
  }
  // Segments that no gradient leaves. Backward works on them in parallel.
  CRNN_HD Segments gradient_segments() const {
    return line_break == LineBreak::kCarry ? Segments{1, steps()} : Segments{lines, length};
  }
  // The same walk, but for the order of its lines where these do not depend on each other: from the first
  // position's side, so that directions there and back have their lines in one order.
  Direction lines_sorted() const {
    Direction d = *this;
    if (line_break == LineBreak::kReset && line_stride < 0)
      d.origin += (lines - 1) * line_stride, d.line_stride = -line_stride;
    return d;
  }
  // Whether segment i of values holds the same positions in both, for every i; lines sorted.
  bool same_segments(const Direction& other) const {
    const Segments mine = value_segments(), others = other.value_segments();
    if (mine.count != others.count || mine.steps != others.steps) return false;
    if (mine.count == 1) return true;  // the whole map
    const auto near = [](const Direction& d) {
      return d.step_stride < 0 ? d.position(d.length - 1) : d.origin;
    };
    return near(*this) == near(other) && line_stride == other.line_stride &&
           (step_stride == other.step_stride || step_stride == -other.step_stride);
  }
  // Whether step s continues from step s - 1; if not, it starts from `initial`.
  CRNN_HD bool value_crosses(int64_t s) const {
    return s > 0 && (s % length != 0 || line_break != LineBreak::kReset);
  }
};

}  // namespace crnn
