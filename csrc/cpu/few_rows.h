// Products of a few rows with a matrix too large for the caches: fully connected layers of small batches.
// What they wait for is the matrix, so that is read, or written, once; few_rows_tile.h computes, once for
// each instruction set.
#pragma once

#include <cstdint>

namespace crnn {

constexpr int64_t kFewChunk =
    1024;                        // columns of x that are used at once: of few rows, in the first-level cache
constexpr int64_t kFewGap = 16;  // values between two rows, which then fall into different sets of a cache
constexpr int64_t kFewOutputs = 32;  // rows of W whose dot products a unit of forward takes
constexpr int64_t kFewPanel = 512;   // columns of dx of a unit
constexpr int64_t kFewStack = 16;    // rows of W that are added to them at once
constexpr int64_t kFewTile = 6;      // rows of dW that are computed at once
constexpr int64_t kFewTiles = 8;     // and so many times of a unit

// x [N, K], W [O, K], y [N, O]; what a product does not need is null.
template <typename T>
struct FewCall {
  int64_t N, O, K;
  const T* w;
  const T* x;   // in chunks: [K / kFewChunk, N, kFewChunk + kFewGap], zeros beyond K
  const T* dy;  // of dx: [O, N]; of dW: [O / kFewTile, N, kFewTile], zeros beyond O
  T* out;

  const T* chunk(int64_t k) const { return x + k / kFewChunk * N * (kFewChunk + kFewGap); }
  int64_t forward_units() const { return (O + kFewOutputs - 1) / kFewOutputs; }
  int64_t dx_units() const { return (K + kFewPanel - 1) / kFewPanel; }
  int64_t dw_units() const { return (O + kFewTile * kFewTiles - 1) / (kFewTile * kFewTiles); }
};

// A unit writes outputs of its own. scratch: a thread's, of `forward_scratch` or `dx_scratch` values.
template <typename T>
struct FewRows {
  const char* name;
  int64_t (*forward_scratch)(int64_t N);
  int64_t (*dx_scratch)(int64_t N);
  void (*forward)(const FewCall<T>&, int64_t unit, T* scratch);
  void (*dx)(const FewCall<T>&, int64_t unit, T* scratch);
  void (*dw)(const FewCall<T>&, int64_t unit, T* scratch);
};

template <typename T>
const FewRows<T>& few_rows_portable();
template <typename T>
const FewRows<T>& few_rows_avx2();
template <typename T>
const FewRows<T>& few_rows_avx512();

}  // namespace crnn
