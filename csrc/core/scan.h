// The boundary of the scan op: everything a backend may assume, checked once, for every backend.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>
#include <string>
#include <vector>

#include "cells.h"

namespace crnn {

using torch::stable::Tensor;

// The tensors and texts of a call that forward and backward share. Shapes: crnn/ops/scan.py.
struct ScanInputs {
  Tensor whh;
  std::optional<Tensor> cell_params, initial, cont;
  std::vector<int64_t> plan;
  std::string cell;
};

struct ScanShape {
  int64_t P, N, K, D;                    // positions, batch, directions, channels
  int64_t gates, states, saved, params;  // per cell
  std::vector<Direction> plan;
};

inline std::vector<Direction> read_plan(const std::vector<int64_t>& flat, int64_t P) {
  STD_TORCH_CHECK(!flat.empty() && flat.size() % Direction::kFields == 0, "crnn::scan: plan must hold ",
      Direction::kFields, " ints per direction, got ", flat.size(), " ints");
  std::vector<Direction> plan;
  for (size_t i = 0; i < flat.size(); i += Direction::kFields) {
    const size_t k = i / Direction::kFields;
    plan.push_back({flat[i], flat[i + 1], flat[i + 2], flat[i + 3], flat[i + 4], LineBreak(flat[i + 5])});
    const Direction& d = plan.back();
    STD_TORCH_CHECK(flat[i + 5] >= 0 && flat[i + 5] <= 2, "crnn::scan: direction ", k, " has line break ",
        flat[i + 5], "; known: 0 carry, 1 carry_value, 2 reset");
    STD_TORCH_CHECK(d.length > 0 && d.lines > 0 && d.length <= P && d.lines <= P && d.steps() == P,
        "crnn::scan: direction ", k, " visits ", d.lines, " lines of ", d.length, ", but z has ", P,
        " positions");
    for (int64_t s :
        {int64_t(0), d.length - 1, P - d.length, P - 1})  // the corners of the walk bound all of it
      STD_TORCH_CHECK(d.position(s) >= 0 && d.position(s) < P, "crnn::scan: direction ", k,
          " steps outside the map at step ", s, " (position ", d.position(s), " of ", P, ")");
    STD_TORCH_CHECK(d.visits_all(), "crnn::scan: direction ", k, " visits positions twice, by strides of ",
        d.step_stride, " and ", d.line_stride);
  }
  return plan;
}

inline bool has_sizes(const Tensor& t, const std::vector<int64_t>& sizes) {
  bool has = t.dim() == int64_t(sizes.size());
  for (size_t i = 0; has && i < sizes.size(); ++i) has = t.size(i) == sizes[i];
  return has;
}

inline std::string text_of(const Tensor& t) {
  std::string sizes;
  for (int64_t i = 0; i < t.dim(); ++i) sizes += (i ? ", " : "") + std::to_string(t.size(i));
  return "[" + sizes + "]";
}

inline bool goes_with(const Tensor& t, const Tensor& like) {
  return t.scalar_type() == like.scalar_type() && t.device() == like.device();
}

// K directions over P positions of N samples, all of the dtype and device of `like`.
inline ScanShape check_scan(const Tensor& like, int64_t P, int64_t N, int64_t K, const ScanInputs& in) {
  const Tensor& whh = in.whh;
  STD_TORCH_CHECK(whh.dim() == 3, "crnn::scan: whh must be [K, gates*D, D], got ", whh.dim(), " dimensions");
  ScanShape s{P, N, K, whh.size(2), 0, 0, 0, 0, read_plan(in.plan, P)};
  const bool known = Cells::visit(in.cell,
      [&](auto c) { s.gates = c.kGates, s.states = c.kStates, s.saved = c.kSaved, s.params = c.kParams; });
  STD_TORCH_CHECK(known, "crnn::scan: unknown cell '", in.cell, "'");
  STD_TORCH_CHECK(in.cell_params.has_value() == (s.params > 0), "crnn::scan: cell '", in.cell, "' has ",
      s.params, " parameters of its own: cell_params must be ", s.params ? "[K, that, D]" : "None");
  STD_TORCH_CHECK(int64_t(s.plan.size()) == s.K, "crnn::scan: plan has ", s.plan.size(),
      " directions, the tensors ", s.K);
  STD_TORCH_CHECK(whh.size(0) == s.K && whh.size(1) == s.gates * s.D, "crnn::scan: whh must be [", s.K, ", ",
      s.gates, "*D, D] for ", s.K, " directions of cell '", in.cell, "', got ", text_of(whh));
  STD_TORCH_CHECK(goes_with(whh, like), "crnn::scan: z and whh must have one dtype and device");
  STD_TORCH_CHECK(whh.is_contiguous(), "crnn::scan: whh must be contiguous");
  const auto check_optional = [&](const std::optional<Tensor>& t, const char* name,
                                  const std::vector<int64_t>& sizes) {
    if (!t) return;
    STD_TORCH_CHECK(has_sizes(*t, sizes), "crnn::scan: got ", name, " of shape ", text_of(*t), " for ", s.P,
        " positions of ", s.N, " samples, ", s.K, " directions, ", s.D, " channels and ", s.states,
        " states");
    STD_TORCH_CHECK(t->is_contiguous() && goes_with(*t, like), "crnn::scan: ", name,
        " must be contiguous, and of z's dtype and device");
  };
  check_optional(in.cell_params, "cell_params [K, params, D]", {s.K, s.params, s.D});
  check_optional(in.initial, "initial [states, N, K, D]", {s.states, s.N, s.K, s.D});
  check_optional(in.cont, "cont [P, N]", {s.P, s.N});
  return s;
}

// P, N, K and the dtype come from `like`: z [P, N, K, gates*D] forward, state[0] [P, N, K, D] backward.
inline ScanShape check_scan(const Tensor& like, const ScanInputs& in) {
  STD_TORCH_CHECK(
      like.dim() == 4, "crnn::scan: z must be [P, N, K, gates*D], got ", like.dim(), " dimensions");
  return check_scan(like, like.size(0), like.size(1), like.size(2), in);
}

// dstate and state [S, P, N, K, D], and `saved` with kept(shape) values a row, are what the scan gave.
template <typename Kept>
ScanShape check_scan_backward(
    const Tensor& dstate, const Tensor& state, const Tensor& saved, const ScanInputs& in, Kept&& kept) {
  STD_TORCH_CHECK(state.dim() == 5 && state.size(0) > 0 && state.is_contiguous(),
      "crnn::scan_backward: state must be [S, P, N, K, D] and contiguous, got ", text_of(state));
  const ScanShape s = check_scan(torch::stable::select(state, 0, 0), in);
  const std::vector<int64_t> sizes{s.states, s.P, s.N, s.K, s.D};
  for (const Tensor* t : {&state, &dstate})
    STD_TORCH_CHECK(has_sizes(*t, sizes) && goes_with(*t, state), "crnn::scan_backward: state and dstate of ",
        s.states, " states must have one shape, dtype and device, got ", text_of(state), " and ",
        text_of(dstate));
  const int64_t count = s.P * s.N * s.K * int64_t(kept(s));  // of 0 values nothing is read
  STD_TORCH_CHECK(count == 0 || (saved.is_contiguous() && goes_with(saved, state) && saved.numel() == count),
      "crnn::scan_backward: saved must be as the scan of cell '", in.cell, "' gave it, got ", text_of(saved));
  return s;
}

// `t` holds rows of `width` channels, its last dimension; rows may be strided, channels are dense.
inline void check_rows(const Tensor& t, int64_t width, const char* name) {
  const int64_t last = t.dim() - 1;
  STD_TORCH_CHECK(
      t.size(last) == width, "crnn::scan: ", name, " must have ", width, " channels, got ", t.size(last));
  STD_TORCH_CHECK(
      width <= 1 || t.stride(last) == 1, "crnn::scan: the last dimension of ", name, " must be dense");
}

}  // namespace crnn
