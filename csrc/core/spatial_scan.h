// The boundary of the spatial_scan op: what a kernel may assume. Shapes: crnn/ops/spatial_scan.py.
#pragma once

#include "scan.h"

namespace crnn {

struct SpatialInputs {
  Tensor x;
  std::optional<Tensor> w_ih, bias;
  std::string combine;
  bool states;  // whether they are asked for, and what backward needs
};

// x [P, N, C] with w_ih, else z itself, [P, N, K, gates*D].
inline ScanShape check_spatial_scan(const SpatialInputs& spatial, const ScanInputs& in) {
  const auto& [x, w_ih, bias, combine, states] = spatial;
  STD_TORCH_CHECK(combine == "sum" || combine == "mean" || combine == "concat",
      "crnn::spatial_scan: unknown combine '", combine, "'; known: sum, mean, concat");
  STD_TORCH_CHECK(states || combine != "concat",
      "crnn::spatial_scan: of combine 'concat' the states are the result; states must be true");
  STD_TORCH_CHECK(w_ih || !bias, "crnn::spatial_scan: a bias goes with w_ih; z has its own in it");
  if (!w_ih) {
    const ScanShape s = check_scan(x, in);
    check_rows(x, s.gates * s.D, "z");
    return s;
  }
  STD_TORCH_CHECK(x.dim() == 3, "crnn::spatial_scan: x must be [P, N, C], got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(in.whh.dim() == 3, "crnn::spatial_scan: whh must be [K, gates*D, D], got ", in.whh.dim(),
      " dimensions");
  const ScanShape s = check_scan(x, x.size(0), x.size(1), in.whh.size(0), in);
  const auto check = [&](const Tensor& t, const char* name, bool fits) {
    STD_TORCH_CHECK(fits && t.is_contiguous() && goes_with(t, x), "crnn::spatial_scan: ", name,
        " must be contiguous, of x's dtype and device, and for ", s.K, " directions of cell '", in.cell,
        "' of ", s.D, " channels or one shared by them");
  };
  const auto directions = [&](const Tensor& t) { return t.size(0) == 1 || t.size(0) == s.K; };
  check(*w_ih, "w_ih [K or 1, gates*D, C]",
      w_ih->dim() == 3 && directions(*w_ih) && w_ih->size(1) == s.gates * s.D && w_ih->size(2) == x.size(2));
  if (bias)
    check(*bias, "bias [K or 1 as w_ih, gates*D]",
        bias->dim() == 2 && bias->size(0) == w_ih->size(0) && bias->size(1) == s.gates * s.D);
  STD_TORCH_CHECK(x.size(2) > 0, "crnn::spatial_scan: x must have channels");
  check_rows(x, w_ih->size(2), "x");
  return s;
}

}  // namespace crnn
