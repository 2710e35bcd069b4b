// The scan op on CPU tensors. Contract: csrc/core/scan.h, crnn/ops/scan.py.
#pragma once

#include <algorithm>
#include <string>
#include <tuple>

#include "../core/scan.h"
#include "tile.h"

namespace crnn {

// What a step adds to W_hh h: z, rows of gates*D values at these strides over P, N and K; and, where they are
// given, W_ih x with x [P, N, C] and w_ih [K or 1, gates*D, C].
struct Added {
  Tensor z;
  Strides zs;
  std::optional<Tensor> x, w_ih;
};

// Parts of the maps, the same positions in all directions: a thread takes one through direction after
// direction, and their sum is made in its cache. They consist of `cuts` pieces: samples where `by_sample`,
// else chains, which then are the same in all directions.
struct Parts {
  int64_t count, cuts;
  bool by_sample;
};

// The directions' sum [N, P, D], times scale.
struct Sum {
  Tensor y;
  double scale;
  Parts parts;
};

// Of a scan that makes the sum itself; none where a pass over the states is better: where threads would wait,
// or where states are written too and a part's sum would not stay in cache beside them.
Parts parts_of_sum(const ScanShape& q, const Tensor& like, bool states);

// state [states, P, N, K, D] and what backward needs, empty where `states` are not asked for; and `sum`.
std::tuple<Tensor, Tensor> scan_forward(const ScanShape& q, const ScanInputs& in, const Added& added,
    const std::string& variant, bool states = true, const Sum* sum = nullptr);

// d W_hh [K, gates*D, D] from dz and what the scan was given and gave, by a pass of its own.
void scan_weights(const ScanShape& q, const ScanInputs& in, const Tensor& dz, const Tensor& state,
    const Tensor& saved, const std::string& variant, Tensor& dwhh);

// out [rows, D] = the sum of `shares`, each [rows, width] and `size` values after the one before.
template <typename T, typename S>
void add_shares(T* first, int64_t shares, int64_t size, int64_t rows, int64_t width, int64_t D, S* out) {
  for (int64_t r = 0; r < rows; ++r) {
    T* row = first + r * width;
    for (int64_t share = 1; share < shares; ++share)
      for (int64_t d = 0; d < D; ++d) row[d] += row[share * size + d];
    std::copy(row, row + D, out + r * D);
  }
}

}  // namespace crnn
