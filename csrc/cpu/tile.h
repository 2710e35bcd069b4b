// A tile: some chains of one direction, which one thread takes through all their steps.
//
// S is the type in memory, T (Compute<S>) the one that computes: S itself, or float for half and bfloat16.
// Values carried from step to step stay in T. This file says what a tile is given; tile_forward.h and
// tile_backward.h compute it, once for each instruction set (tile_<name>.cpp).
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>

#include "../core/cells.h"

namespace crnn {

constexpr int64_t kTile = 24;  // chains of a unit: a multiple of every product's rows

// Uninitialised values that begin on a cache line, so that no vector of a panel lies across two.
template <typename T>
class Aligned {
 public:
  explicit Aligned(int64_t size = 0)
      : values_(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t(64)))) {}
  T* data() const { return values_.get(); }

 private:
  struct Delete {
    void operator()(T* values) const { ::operator delete(values, std::align_val_t(64)); }
  };
  std::unique_ptr<T, Delete> values_;
};

template <typename S>
using Compute = std::conditional_t<sizeof(S) == 2, float, S>;

// A row's length, in values, that spreads rows over the sets of a cache: an odd number of lines.
inline int64_t apart(int64_t columns) {
  return ((columns + 15) / 16 | 1) * 16;
}

inline int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Rows of a matrix, or none; where there are some, one of the strides is 1.
template <typename S>
struct Matrix {
  const S* values;
  int64_t inner, row_stride, column_stride;

  Matrix from_column(int64_t c) const {
    return {values + c * column_stride, inner, row_stride, column_stride};
  }
};

// Element strides of a [P, N, K, D] tensor; channels are dense.
struct Strides {
  int64_t p, n, k;
};

// Chains first .. first + count - 1 of direction k; a chain is (segment, sample), in the order that the call
// says.
struct Unit {
  int64_t index, k, first, count;
  Segments segments;
};

// What all units of a call share; a missing optional input is null.
template <typename S>
struct Call {
  int64_t P, N, K, D;
  const Direction* plan;
  const S *cell_params, *initial, *cont;
  int64_t width;                // columns of a panel of packed
  bool by_sample;               // chains are numbered sample by sample, else segment by segment
  const Compute<S>* packed[2];  // W_hh of each phase, per direction, as the tiles pack it

  int64_t row(int64_t p, int64_t n, int64_t k) const { return (p * N + n) * K + k; }
  int64_t plane() const { return P * N * K * D; }  // between two states
  int64_t initial_at(int64_t j, int64_t n, int64_t k) const { return ((j * N + n) * K + k) * D; }
  Compute<S> keep(int64_t p, int64_t n) const { return cont ? Compute<S>(cont[p * N + n]) : 1; }
  int64_t padded(int64_t columns) const { return round_up(columns, width); }
};

// With x, W_ih x is added to z: W_ih's columns stand behind W_hh's in packed, a row of x behind each h.
template <typename S>
struct ForwardCall : Call<S> {
  const S *z, *x;
  Strides zs, xs;
  int64_t C;         // of a row of x; 0 without
  S *state, *saved;  // both null where y alone is asked for
  S* y;              // [N, P, D], or null: the sum of the directions, which k = 0 begins, times scale
  Compute<S> scale;
};

// dparams [unit, params, D] takes a unit's share; dstart [segment, states, N, K, D] is null without initial.
template <typename S>
struct BackwardCall : Call<S> {
  const S *state, *saved, *dstate;
  Strides ds;
  int64_t dstate_plane;
  S* dz;
  Strides dzs;
  S* dstart;
  Compute<S>* dparams;
  const Unit* end;  // of the call's units: before it, a unit asks for what the next begins with
};

// d W_hh: the sum over steps and samples of dz (outer product) what W_hh multiplied there.
template <typename S>
struct WeightsCall {
  int64_t P, N, K, D, gates;
  const Direction* plan;
  const S *dz, *initial, *cont, *state, *saved;
  Strides dzs;
  int64_t saved_count;

  int64_t row(int64_t p, int64_t n, int64_t k) const { return (p * N + n) * K + k; }
};
constexpr int64_t kBlock =
    64;  // rows of dz and h that are packed at once: they stay in the second-level cache
constexpr int64_t kPanelGap =
    16;  // values between two panels, which then fall into different sets of a cache

// out [rows of W_hh, padded; D, padded], zero at entry: W_hh's rows first .. first + count - 1 of direction
// k, summed over (step, sample) begin .. end - 1. gate: the saved value that multiplied h, or -1.
template <typename T>
struct WeightsShare {
  int64_t k, first, count, gate, begin, end;
  T* out;
};

// Cache lines that rows of so many values take, at the most; and of all rows of a chain's step.
inline int64_t lines(int64_t values) {
  return values / 8 + 1;
}
template <typename Cell>
int64_t forward_lines(int64_t D, int64_t C) {
  return lines(C ? C : Cell::kGates * D) + 2 * lines(D) + lines(Cell::kSaved * D);
}
template <typename Cell>
int64_t backward_lines(int64_t D) {
  return 3 * lines(D) + lines(Cell::kGates * D) + lines(Cell::kSaved * D);
}
constexpr int64_t kPointer = 2;  // values, at the most, in the place of a pointer

// Values of T that a unit needs beside its tensors, at the most.
template <typename Cell>
int64_t forward_scratch(int64_t D, int64_t C, int64_t width) {
  const int64_t first = Cell::kFirstGates * D, rest = (Cell::kGates - Cell::kFirstGates) * D;
  const int64_t chain =
      (Cell::kStates + 1) * apart(D + C) + Cell::kSaved * D + apart(first + width) + apart(rest + width);
  return kTile * (chain + kPointer * forward_lines<Cell>(D, C)) + D * (Cell::kStates + Cell::kSaved);
}
inline int64_t weights_scratch(int64_t rows, int64_t columns, int64_t height, int64_t width) {
  const int64_t panels = (columns + width - 1) / width;
  return kBlock * (apart(rows + height) + kPointer * (lines(rows) + lines(columns))) +
         panels * (kBlock * width + kPanelGap);
}
template <typename Cell>
int64_t chains_scratch(int64_t D, int64_t width) {
  return kTile * (apart(Cell::kStates * D) + 2 * apart(Cell::kGates * D) + apart(D + width) +
                     2 * kPointer * backward_lines<Cell>(D));
}
// With sums: d W_hh's of each phase beside the chains.
template <typename Cell>
int64_t backward_scratch(int64_t D, int64_t height, int64_t width, bool sums) {
  const int64_t first = Cell::kFirstGates * D, rest = (Cell::kGates - Cell::kFirstGates) * D;
  return chains_scratch<Cell>(D, width) +
         (sums ? weights_scratch(first, D, height, width) + weights_scratch(rest, D, height, width) : 0);
}

// The tiles of one instruction set: a function a cell, in the order of Cells.
template <typename S>
struct Tiles {
  const char* name;
  int64_t width, rows;  // columns of a panel, and rows of a product
  void (*forward[Cells::kCount])(const ForwardCall<S>&, const Unit&, Compute<S>* scratch);
  // `count` units of a direction; where sum is not null, their share of d W_hh is added to it: the rows of
  // each phase's gates, padded to `rows`, of D values, padded to `width`.
  void (*backward[Cells::kCount])(
      const BackwardCall<S>&, const Unit*, int64_t count, Compute<S>* sum, Compute<S>* scratch);
  void (*weights)(const WeightsCall<S>&, const WeightsShare<Compute<S>>&, Compute<S>* scratch);
  // How many values of a matrix [inner, columns] the product reads; and a panel of them: `columns` of
  // `upper` and, below it, `lower`.
  int64_t (*packed_size)(int64_t inner, int64_t columns);
  void (*pack)(const Matrix<S>& upper, const Matrix<S>& lower, int64_t columns, Compute<S>* packed);
};

template <typename S>
const Tiles<S>& tiles_portable();
template <typename S>
const Tiles<S>& tiles_avx2();
template <typename S>
const Tiles<S>& tiles_avx512();
template <typename S>
const Tiles<S>& tiles_amx();  // S is bfloat16

}  // namespace crnn
