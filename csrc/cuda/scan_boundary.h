// What the boundaries of the scan's ops share: from torch's tensors to what kernels take. For .cpp files.
#pragma once

#include <algorithm>
#include <optional>

#include "../core/scan.h"
#include "dtype_of.h"
#include "scan_call.h"

namespace crnn {

using OptionalTensor = std::optional<Tensor>;

inline const void* data_of(const OptionalTensor& t) {
  return t ? t->const_data_ptr() : nullptr;
}

inline bool aligned(const Tensor& t, int64_t row_bytes) {
  bool fits = reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0 && row_bytes % 16 == 0;
  for (int64_t i = 0; i + 1 < t.dim(); ++i)
    fits &= t.size(i) <= 1 || t.stride(i) * t.element_size() % 16 == 0;
  return fits;
}

// The problem of a scan of `like`, z or dstate. exact: products of floats may not be rounded to tf32.
inline ScanProblem problem(
    const ScanShape& q, const ScanInputs& in, const Tensor& like, bool exact, bool backward) {
  ScanProblem p{Cells::index(in.cell), dtype_of(like, "crnn::scan"), q.P, q.N, q.K, q.D, 0, 0, backward, true,
      true, in.cont.has_value(), exact};
  for (const Direction& d : q.plan) {
    const Segments segments = backward ? d.gradient_segments() : d.value_segments();
    p.chains = std::max(p.chains, q.N * segments.count), p.steps = std::max(p.steps, segments.steps);
  }
  p.small = q.P < INT32_MAX && p.chains < INT32_MAX - 64;
  const int64_t row = q.D * bytes_of(p.dtype);
  p.aligned = aligned(like, row) && aligned(in.whh, row);
  for (const OptionalTensor* t : {&in.initial, &in.cell_params}) p.aligned &= !*t || aligned(**t, row);
  return p;
}

inline void fill(ScanCall& c, const ScanShape& q, const ScanInputs& in, Dtype dtype, void* scratch) {
  c.P = q.P, c.N = q.N, c.K = q.K, c.D = q.D, c.dtype = dtype, c.scratch = scratch;
  c.whh = in.whh.const_data_ptr(), c.cell_params = data_of(in.cell_params);
  c.initial = data_of(in.initial), c.cont = data_of(in.cont);
}

// Calls start(call, count) with the directions of `plan`, as many at a time as a launch takes.
template <typename Call, typename Start>
void each_launch(Call& call, const std::vector<Direction>& plan, Start&& start) {
  for (size_t first = 0; first < plan.size(); first += kLaunchDirections) {
    const size_t count = std::min(plan.size() - first, size_t(kLaunchDirections));
    std::copy_n(plan.begin() + first, count, call.plan);
    call.first_k = int64_t(first);
    start(call, int(count));
  }
}

inline bool masked(const std::string& cell) {
  bool found = false;
  Cells::visit(cell, [&](auto c) { found = c.kMasked; });
  return found;
}

// What `new_saved` holds of a position, sample and direction.
inline int64_t kept_values(const ScanShape& q, const std::string& cell, Dtype dtype) {
  return masked(cell) ? mask_bytes(q.D) / bytes_of(dtype) : q.saved * q.D;
}

// [P, N, K, saved, D]; of a masked cell [P, N, K, 1, .], the bits in elements of z's dtype.
inline Tensor new_saved(const Tensor& z, const ScanShape& q, const std::string& cell, Dtype dtype) {
  if (!masked(cell)) return torch::stable::new_empty(z, {q.P, q.N, q.K, q.saved, q.D});
  const std::vector<int64_t> mask{q.P, q.N, q.K, 1, kept_values(q, cell, dtype)};
  return q.D % 128 ? torch::stable::new_zeros(z, mask)
                   : torch::stable::new_empty(z, mask);  // padded: no bits
}

}  // namespace crnn
