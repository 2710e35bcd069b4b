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
    STD_TORCH_CHECK(d.length > 0 && d.lines > 0 && d.steps() == P, "crnn::scan: direction ", k, " visits ",
        d.lines, " lines of ", d.length, ", but z has ", P, " positions");
    for (int64_t s :
        {int64_t(0), d.length - 1, P - d.length, P - 1})  // the corners of the walk bound all of it
      STD_TORCH_CHECK(d.position(s) >= 0 && d.position(s) < P, "crnn::scan: direction ", k,
          " steps outside the map at step ", s, " (position ", d.position(s), " of ", P, ")");
  }
  return plan;
}

// K directions over P positions of N samples, all of the dtype of `like`.
inline ScanShape check_scan(const Tensor& like, int64_t P, int64_t N, int64_t K, const ScanInputs& in) {
  const Tensor& whh = in.whh;
  STD_TORCH_CHECK(whh.dim() == 3, "crnn::scan: whh must be [K, gates*D, D], got ", whh.dim(), " dimensions");
  ScanShape s{P, N, K, whh.size(2), 0, 0, 0, 0, read_plan(in.plan, P)};
  const bool known = Cells::visit(in.cell,
      [&](auto c) { s.gates = c.kGates, s.states = c.kStates, s.saved = c.kSaved, s.params = c.kParams; });
  STD_TORCH_CHECK(known, "crnn::scan: unknown cell '", in.cell, "'");
  STD_TORCH_CHECK(in.cell_params.has_value() == (s.params > 0), "crnn::scan: cell '", in.cell, "' has ",
      s.params, " parameters of its own: cell_params must be ", s.params ? "[K, that, D]" : "None");
  STD_TORCH_CHECK(
      int64_t(s.plan.size()) == s.K, "crnn::scan: plan has ", s.plan.size(), " directions, z has ", s.K);
  STD_TORCH_CHECK(whh.size(0) == s.K && whh.size(1) == s.gates * s.D, "crnn::scan: whh must be [", s.K, ", ",
      s.gates, "*D, D] for ", s.K, " directions of cell '", in.cell, "', got [", whh.size(0), ", ",
      whh.size(1), ", ", whh.size(2), "]");
  STD_TORCH_CHECK(whh.scalar_type() == like.scalar_type(), "crnn::scan: z and whh must have one dtype");
  STD_TORCH_CHECK(whh.is_contiguous(), "crnn::scan: whh must be contiguous");
  const auto check_optional = [&](const std::optional<Tensor>& t, const char* name,
                                  std::vector<int64_t> sizes) {
    if (!t) return;
    bool fits =
        t->dim() == int64_t(sizes.size()) && t->is_contiguous() && t->scalar_type() == like.scalar_type();
    for (size_t i = 0; fits && i < sizes.size(); ++i) fits = t->size(i) == sizes[i];
    STD_TORCH_CHECK(fits, "crnn::scan: ", name, " must be contiguous and of z's dtype");
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

// `t` holds rows of `width` channels, its last dimension; rows may be strided, channels are dense.
inline void check_rows(const Tensor& t, int64_t width, const char* name) {
  const int64_t last = t.dim() - 1;
  STD_TORCH_CHECK(
      t.size(last) == width, "crnn::scan: ", name, " must have ", width, " channels, got ", t.size(last));
  STD_TORCH_CHECK(
      width <= 1 || t.stride(last) == 1, "crnn::scan: the last dimension of ", name, " must be dense");
}

}  // namespace crnn
