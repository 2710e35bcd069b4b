// The chains of a tile (tile.h): what forward and backward share. Included by them alone;
// includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "panel_product.h"
#include "tile.h"

namespace crnn {
namespace {

// The sum of a(0) .. a(D - 1), by a vector of partial sums: one after the other they would wait for each
// other.
template <typename T, typename Row>
T sum_of(int64_t D, Row&& a) {
  constexpr int64_t kLanes = 64 / sizeof(T);
  T part[kLanes] = {}, sum = 0;
  int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes)
    for (int64_t i = 0; i < kLanes; ++i) part[i] += a(d + i);
  for (int64_t i = 0; d + i < D; ++i) part[i] += a(d + i);
  for (int64_t i = 0; i < kLanes; ++i) sum += part[i];
  return sum;
}

// Mean and 1 / sqrt(variance + eps) of a row.
template <typename T>
struct Normaliser {
  T mean = 0, scale = 0;
  template <typename Row>
  Normaliser(int64_t D, Row&& a) {
    mean = sum_of<T>(D, a) / T(D);
    const T squares = sum_of<T>(D, [&](int64_t d) { return (a(d) - mean) * (a(d) - mean); });
    scale = T(1) / T(__builtin_sqrt(squares / T(D) + T(kLnEps)));
  }
};

// What forward and backward share: where a chain is, and the product with W_hh.
template <typename Cell, typename S, typename Product, typename Call>
struct Tile {
  using T = Compute<S>;
  static constexpr int kRest = Cell::kGates - Cell::kFirstGates;  // gates of phase 1
  const Call& c;
  const Unit& u;
  const Direction& dir;
  const int64_t D, size;  // size: of one state of all chains
  // Of each chain: its sample, its segment, the position of its first step.
  int64_t sample[kTile], segment[kTile], origin[kTile];

  Tile(const Call& call, const Unit& unit)
      : c(call), u(unit), dir(call.plan[unit.k]), D(call.D), size(unit.count * call.D) {
    for (int64_t b = 0; b < u.count; ++b) {
      const int64_t chain = u.first + b;
      sample[b] = c.by_sample ? chain / u.segments.count : chain % c.N;
      segment[b] = c.by_sample ? chain % u.segments.count : chain / c.N;
      origin[b] = dir.position(segment[b] * u.segments.steps);
    }
  }

  // How far step t lies from the first: the same for all chains, as segments consist of whole lines.
  int64_t offset(int64_t t) const { return dir.position(t) - dir.origin; }

  // out [count, padded(columns)] = a [count, inner] (row stride lda) times the packed matrix of the phase.
  // lines, then: as of Product::product.
  template <typename Then = Nothing>
  void product(int phase, int64_t inner, int64_t columns, const T* a, int64_t lda, T* out,
      const Lines& lines = {}, Then&& then = {}) const {
    const int64_t width = c.padded(columns);
    const T* packed = c.packed[phase] + u.k * Product::packed_size(inner, columns);
    Product::product(u.count, inner, a, lda, packed, width / Product::kWidth, lines, out, apart(width), then);
  }
};

}  // namespace
}  // namespace crnn
