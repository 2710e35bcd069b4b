// The products of few_rows.h. Included by each pass_<name>.cpp after it has chosen the instruction set;
// includes nothing of the standard library (tile_scan.h says why).
//
//   forward  y[n, o] = sum over k of x[n, k] W[o, k]: dot products of 4 rows of W with 3 of x, by lanes
//   dx       dx[n, k] = sum over o of dy[n, o] W[o, k]: rows of W, packed, added to a panel of columns
//   dW       dW[o, k] = sum over n of dy[n, o] x[n, k]: 6 rows of dW at a time
//   order    a sum's order depends on K, or on O or N, alone: equal bits for any number of threads and rows
#pragma once

#include "few_rows.h"

namespace crnn {
namespace {

// kBytes of a vector; 12 of them accumulate.
template <typename T, int kBytes>
struct FewRowsOf {
  typedef T Vector __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = kBytes / sizeof(T), kSide = 2 * kLanes;
  static constexpr int64_t kPitch = kFewPanel + kFewGap;

  static const Vector& at(const T* values) { return *reinterpret_cast<const Vector*>(values); }
  static Vector& at(T* values) { return *reinterpret_cast<Vector*>(values); }

  // sums[n][o] += the products of `count` values, a multiple of kLanes, of O rows of w and R rows of x.
  template <int O, int R>
  static void dots(int64_t count, const T* w, int64_t ldw, const T* x, Vector* sums) {
    Vector sum[R][O];
    for (int n = 0; n < R; ++n)
      for (int o = 0; o < O; ++o) sum[n][o] = sums[n * 4 + o];
    for (int64_t k = 0; k < count; k += kLanes) {
      Vector row[R];
      for (int n = 0; n < R; ++n) row[n] = at(x + n * (kFewChunk + kFewGap) + k);
      for (int o = 0; o < O; ++o) {
        const Vector weight = at(w + o * ldw + k);
        for (int n = 0; n < R; ++n) sum[n][o] += weight * row[n];
      }
    }
    for (int n = 0; n < R; ++n)
      for (int o = 0; o < O; ++o) sums[n * 4 + o] = sum[n][o];
  }

  template <int O>
  static void dots_of(int64_t N, int64_t count, const T* w, int64_t ldw, const T* x, Vector* sums) {
    constexpr int64_t kPitch = kFewChunk + kFewGap;
    int64_t n = 0;
    for (; n + 3 <= N; n += 3) dots<O, 3>(count, w, ldw, x + n * kPitch, sums + n * 4);
    if (N - n == 2) dots<O, 2>(count, w, ldw, x + n * kPitch, sums + n * 4);
    if (N - n == 1) dots<O, 1>(count, w, ldw, x + n * kPitch, sums + n * 4);
  }

  static int64_t forward_scratch(int64_t N) { return kFewOutputs * N * kLanes; }

  static void forward(const FewCall<T>& c, int64_t unit, T* scratch) {
    const int64_t first = unit * kFewOutputs;
    const int64_t end = first + kFewOutputs < c.O ? first + kFewOutputs : c.O;
    Vector* const sums = reinterpret_cast<Vector*>(scratch);  // [output / 4][n][output % 4]
    for (int64_t i = 0; i < kFewOutputs * c.N; ++i) sums[i] = Vector{};
    const int64_t whole = c.K / kLanes * kLanes;
    for (int64_t k = 0; k < whole; k += kFewChunk) {
      const int64_t count = whole - k < kFewChunk ? whole - k : kFewChunk;
      int64_t o = first;
      for (; o + 4 <= end; o += 4)
        dots_of<4>(c.N, count, c.w + o * c.K + k, c.K, c.chunk(k), sums + (o - first) * c.N);
      for (; o < end; ++o)
        dots_of<1>(c.N, count, c.w + o * c.K + k, c.K, c.chunk(k),
            sums + (o - first) / 4 * 4 * c.N + (o - first) % 4);
    }
    for (int64_t o = first; o < end; ++o)
      for (int64_t n = 0; n < c.N; ++n) {
        const Vector lanes = sums[(o - first) / 4 * 4 * c.N + n * 4 + (o - first) % 4];
        T sum = 0;
        for (int i = 0; i < kLanes; ++i) sum += lanes[i];
        for (int64_t k = whole; k < c.K; ++k)
          sum += c.w[o * c.K + k] * c.chunk(k)[n * (kFewChunk + kFewGap) + k % kFewChunk];
        c.out[n * c.O + o] = sum;
      }
  }

  // out [R, kSide] += dy [rows, R] transposed, times w [rows, kSide]: a sum of its own first, as thousands of
  // terms one after the other would lose what rounding takes from each.
  template <int R>
  static void stack(int64_t rows, const T* dy, int64_t N, const T* w, T* out) {
    Vector sum[R][2] = {};
    for (int64_t o = 0; o < rows; ++o, dy += N, w += kPitch)
      for (int n = 0; n < R; ++n)
        for (int v = 0; v < 2; ++v) sum[n][v] += dy[n] * at(w + v * kLanes);
    for (int n = 0; n < R; ++n)
      for (int v = 0; v < 2; ++v) at(out + n * kPitch + v * kLanes) += sum[n][v];
  }

  // The rows that are left when kFewTile at a time no longer fit.
  template <int R>
  static void stack_rest(int64_t left, int64_t rows, const T* dy, int64_t N, const T* w, T* out) {
    if constexpr (R > 0) {
      if (left == R) return stack<R>(rows, dy, N, w, out);
      stack_rest<R - 1>(left, rows, dy, N, w, out);
    }
  }

  static int64_t dx_scratch(int64_t N) { return (N + kFewStack) * kPitch; }

  static void dx(const FewCall<T>& c, int64_t unit, T* scratch) {
    const int64_t first = unit * kFewPanel, width = c.K - first < kFewPanel ? c.K - first : kFewPanel;
    T *const sums = scratch, *const packed = scratch + c.N * kPitch;  // of rows as long as a panel
    for (int64_t i = 0; i < dx_scratch(c.N); ++i) scratch[i] = 0;
    for (int64_t o = 0; o < c.O; o += kFewStack) {
      const int64_t rows = c.O - o < kFewStack ? c.O - o : kFewStack;
      const T* w = c.w + o * c.K + first;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < width; ++k) packed[i * kPitch + k] = w[i * c.K + k];
      if (o + 2 * kFewStack <= c.O)  // the next rows, while these are added
        for (int64_t i = kFewStack; i < 2 * kFewStack; ++i)
          for (int64_t k = 0; k < width; k += 64 / int64_t(sizeof(T))) __builtin_prefetch(w + i * c.K + k);
      const T* dy = c.dy + o * c.N;
      for (int64_t k = 0; k < width; k += kSide) {
        int64_t n = 0;
        for (; n + kFewTile <= c.N; n += kFewTile)
          stack<kFewTile>(rows, dy + n, c.N, packed + k, sums + n * kPitch + k);
        stack_rest<kFewTile - 1>(c.N - n, rows, dy + n, c.N, packed + k, sums + n * kPitch + k);
      }
    }
    for (int64_t n = 0; n < c.N; ++n)
      for (int64_t k = 0; k < width; ++k) c.out[n * c.K + first + k] = sums[n * kPitch + k];
  }

  // out [kFewTile, kSide] = dy [N, kFewTile] transposed, times x [N, kSide].
  static void outer(int64_t N, const T* dy, const T* x, T* out, int64_t ldo) {
    Vector sum[kFewTile][2] = {};
    for (int64_t n = 0; n < N; ++n, dy += kFewTile, x += kFewChunk + kFewGap)
      for (int r = 0; r < kFewTile; ++r)
        for (int v = 0; v < 2; ++v) sum[r][v] += dy[r] * at(x + v * kLanes);
    for (int r = 0; r < kFewTile; ++r)
      for (int v = 0; v < 2; ++v) at(out + r * ldo + v * kLanes) = sum[r][v];
  }

  static void dw(const FewCall<T>& c, int64_t unit, T*) {
    const int64_t first = unit * kFewTile * kFewTiles;
    const int64_t end = first + kFewTile * kFewTiles < c.O ? first + kFewTile * kFewTiles : c.O;
    for (int64_t chunk = 0; chunk < c.K; chunk += kFewChunk)
      for (int64_t o = first; o < end; o += kFewTile) {
        const T *dy = c.dy + o * c.N, *x = c.chunk(chunk);
        const int64_t last = c.K < chunk + kFewChunk ? c.K : chunk + kFewChunk;
        int64_t k = chunk;
        if (o + kFewTile <= end)
          for (; k + kSide <= last; k += kSide) outer(c.N, dy, x + k - chunk, c.out + o * c.K + k, c.K);
        for (; k < last; k += kSide) {  // at an edge of dW
          T edge[kFewTile * kSide];
          outer(c.N, dy, x + k - chunk, edge, kSide);
          for (int64_t r = 0; r < kFewTile && o + r < end; ++r)
            for (int64_t i = 0; i < kSide && k + i < last; ++i)
              c.out[(o + r) * c.K + k + i] = edge[r * kSide + i];
        }
      }
  }

  static constexpr FewRows<T> table(const char* name) {
    return {name, forward_scratch, dx_scratch, forward, dx, dw};
  }
};

}  // namespace
}  // namespace crnn
