// Where a chain is. Chains of a direction are numbered segment by segment; a chain is (segment, sample), a
// segment being steps that nothing enters (forward) or leaves (backward) but through its ends: plan.h.
#pragma once

#include "device.cuh"
#include "scan_call.h"

namespace crnn {

struct Chains {
  const ScanCall& call;
  const Direction& dir;
  const Segments segments;
  const int64_t k, count;

  CRNN_DEVICE Chains(const ScanCall& c, int direction, bool backward)
      : call(c),
        dir(c.plan[direction]),
        segments(backward ? dir.gradient_segments() : dir.value_segments()),
        k(c.first_k + direction),
        count(segments.count * c.N) {}

  CRNN_DEVICE int64_t sample(int64_t chain) const { return chain % call.N; }
  CRNN_DEVICE int64_t segment(int64_t chain) const { return chain / call.N; }
  CRNN_DEVICE int64_t step(int64_t chain, int64_t t) const { return segment(chain) * segments.steps + t; }
  CRNN_DEVICE int64_t position(int64_t chain, int64_t t) const { return dir.position(step(chain, t)); }
};

}  // namespace crnn
