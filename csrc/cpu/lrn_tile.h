// Local response normalisation of one tile. Included by each pass_<name>.cpp after it has chosen the
// instruction set; includes nothing of the standard library (tile_scan.h says why).
//
//     s = k + share * (sum of x^2 over the window)      y = x s^-beta
//     dx = dy s^-beta - 2 share beta x (sum of dy x s^-(beta+1) over the window)
//
// A tile is copied into buffers with a border of zeros, so that a window is a sum of shifted vectors. s is
// cheaper to compute again in backward than to read: nothing but x is kept.
#pragma once

#include "pass.h"

namespace crnn {
namespace {

constexpr int64_t kLrnChunk = 512;  // values whose sums are in a thread's first-level cache at once

template <typename S, bool kThreeQuarters>
struct LrnTile {
  using T = Compute<S>;
  const LrnCall<S>& c;
  const LrnUnit& u;
  const int64_t half = c.size / 2, top = c.down ? half : 0, left = c.along ? half : 0;
  const int64_t row = c.row_length(), plane = c.plane();
  T *const x, *const squares, *const g, *const ratios, *const spare;

  LrnTile(const LrnCall<S>& call, const LrnUnit& unit, T* buffers)
      : c(call),
        u(unit),
        x(buffers),
        squares(buffers + plane),
        g(buffers + 2 * plane),
        ratios(buffers + 3 * plane),
        spare(buffers + 4 * plane) {}

  // Calls visit(in memory, in a buffer, count) for every run of values that lie side by side in both.
  template <typename Visit>
  void each_run(Visit&& visit) const {
    const int64_t runs = c.lanes == 1 ? 1 : c.columns, count = c.lanes == 1 ? c.columns : u.lanes;
    for (int64_t r = 0; r < u.rows; ++r)
      for (int64_t m = 0; m < runs; ++m)
        visit(u.base + r * c.row_stride + m * c.column_stride, (top + r) * row + (left + m) * c.lanes, count);
  }

  // Calls visit(first, count) for all of the tile inside the border, some values of a buffer at a time.
  template <typename Visit>
  void each_chunk(Visit&& visit) const {
    const bool flat = left == 0;  // no border between rows
    const int64_t spans = flat ? 1 : u.rows, length = (flat ? u.rows : 1) * c.columns * c.lanes;
    for (int64_t r = 0; r < spans; ++r)
      for (int64_t i = 0; i < length; i += kLrnChunk)
        visit((top + r) * row + left * c.lanes + i, length - i < kLrnChunk ? length - i : kLrnChunk);
  }

  // sums[i] = the sum of `size` values of `from` around first + i, `shift` apart.
  void sum(const T* from, int64_t shift, int64_t first, int64_t count, T* __restrict sums) const {
    from += first - half * shift;
    for (int64_t i = 0; i < count; ++i) sums[i] = from[i];
    int64_t j = 1;
    for (; j + 1 < c.size; j += 2) {
      const T *a = from + j * shift, *b = a + shift;
      for (int64_t i = 0; i < count; ++i) sums[i] += a[i] + b[i];
    }
  }

  // What is left to sum over rows; over the columns of a window in both directions it is done here.
  const T* along(const T* from) const {
    if (!c.along || !c.down) return from;
    each_chunk([&](int64_t first, int64_t count) { sum(from, c.lanes, first, count, spare + first); });
    return spare;
  }
  int64_t shift() const { return c.down ? row : c.lanes; }

  void load() const {
    each_run([&](int64_t at, int64_t to, int64_t count) {
      const S* from = c.x + at;
      T* __restrict values = x + to, * __restrict products = squares + to;
      for (int64_t i = 0; i < count; ++i) {
        values[i] = T(from[i]);
        products[i] = values[i] * values[i];
      }
    });
  }

  void store(S* out, const T* from) const {
    each_run([&](int64_t at, int64_t to, int64_t count) {
      S* __restrict into = out + at;
      for (int64_t i = 0; i < count; ++i) into[i] = S(from[to + i]);
    });
  }

  void forward() const {
    load();
    const T *windows = along(squares), share = c.share, k = c.k, beta = c.beta;
    each_chunk([&](int64_t first, int64_t count) {
      T sums[kLrnChunk], *__restrict values = x + first;
      sum(windows, shift(), first, count, sums);
      for (int64_t i = 0; i < count; ++i)
        values[i] *= lrn_power<kThreeQuarters>(k + share * sums[i], beta).factor;
    });
    store(c.out, x);
  }

  void backward() const {
    load();
    each_run([&](int64_t at, int64_t to, int64_t count) {
      const S* from = c.dy + at;
      T* __restrict into = g + to;
      for (int64_t i = 0; i < count; ++i) into[i] = T(from[i]);
    });
    const T *windows = along(squares), share = c.share, k = c.k, beta = c.beta;
    each_chunk([&](int64_t first, int64_t count) {
      T sums[kLrnChunk], *__restrict dy = g + first, *__restrict ratio = ratios + first;
      const T* values = x + first;
      sum(windows, shift(), first, count, sums);
      for (int64_t i = 0; i < count; ++i) {
        const LrnPower<T> power = lrn_power<kThreeQuarters>(k + share * sums[i], beta);
        ratio[i] = dy[i] * values[i] * power.slope;
        dy[i] *= power.factor;
      }
    });
    windows = along(ratios);
    const T twice = 2 * share * beta;
    each_chunk([&](int64_t first, int64_t count) {
      T sums[kLrnChunk], *__restrict dx = g + first;
      const T* values = x + first;
      sum(windows, shift(), first, count, sums);
      for (int64_t i = 0; i < count; ++i) dx[i] -= twice * values[i] * sums[i];
    });
    store(c.out, g);
  }
};

template <typename S>
void lrn_forward(const LrnCall<S>& c, const LrnUnit& u, Compute<S>* buffers) {
  c.three_quarters ? LrnTile<S, true>(c, u, buffers).forward() : LrnTile<S, false>(c, u, buffers).forward();
}
template <typename S>
void lrn_backward(const LrnCall<S>& c, const LrnUnit& u, Compute<S>* buffers) {
  c.three_quarters ? LrnTile<S, true>(c, u, buffers).backward() : LrnTile<S, false>(c, u, buffers).backward();
}

}  // namespace
}  // namespace crnn
