// Small dense products for the scan: a few rows times a matrix that stays in cache, packed in panels.
//
// out = a * matrix; every output is one sum over `inner` in order, so its bits do not depend on how the rows
// are split into calls. Included by each tile_<name>.cpp after it has chosen the instruction set.
#pragma once

#include <cstdint>

namespace crnn {
namespace {  // internal linkage: each file has its own compilation of everything below

// Cache lines to come, in the order in which they are needed: steps lie too far apart for the processor to
// foresee the next one. They go to the second cache; the first would lose them again to W_hh.
struct Lines {
  const char** list;
  int64_t count = 0;

  template <typename S>
  void add(const S* row, int64_t values) {
    for (int64_t i = 0; i < values; i += 64 / int64_t(sizeof(S))) list[count++] = (const char*)(row + i);
  }

  // All at once. The empty asm: gcc 12 takes a function that only prefetches for one without effect, and
  // drops its calls.
  void ask() const {
    for (int64_t i = 0; i < count; ++i) __builtin_prefetch(list[i], 0, 2);
    asm volatile("");
  }
};

// The same lines evenly over the steps of a product: many at once fill the buffers of a core's misses, and
// wait, with none under way in the rest of the product. Where there are more lines than steps some are left
// out, where there are fewer some are asked for again.
struct Pace {
  static constexpr int kPoint = 16;  // of rate and at, which count lines
  static constexpr const char* kNone[] = {""};
  const char* const* list;
  int64_t rate, at = 0;

  Pace(const Lines& lines, int64_t steps)
      : list(lines.count ? lines.list : kNone), rate(steps > 0 ? (lines.count << kPoint) / steps : 0) {}

  // Those of the next `steps` at once.
  void ask(int64_t steps) {
    const int64_t end = (at + rate * steps) >> kPoint;
    for (int64_t i = at >> kPoint; i < end; ++i) __builtin_prefetch(list[i], 0, 2);
    at += rate * steps;
    asm volatile("");
  }
};

// For a product with nothing to do beside it.
struct Nothing {
  void operator()(int64_t row, int64_t end, int64_t column) const {}
};

// kBytes of a vector, kVectors of them across a panel, kRows rows at a time: kRows * kVectors accumulators.
template <typename T, int kBytes, int kVectors, int kRows>
struct Blocked {
  typedef T Vector __attribute__((vector_size(kBytes), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = kBytes / sizeof(T), kLine = 64 / sizeof(T);  // values of a cache line
  static constexpr int64_t kWidth = kLanes * kVectors, kHeight = kRows;
  // Rows of a panel that stay in the first cache while all rows of a product pass.
  static constexpr int64_t kDepth = (1 << 14) / int64_t(sizeof(T)) / kWidth;
  // Values of a matrix that the second cache may lose: each part of the rows then asks for a part of the next
  // block, beside its own products.
  static constexpr int64_t kFar = (1 << 20) / int64_t(sizeof(T));

  // Whether a step of a sum has room for a line to ask for. If not they are asked for in the few lots that
  // narrow panels and small parts of the rows make.
  static constexpr bool kBeside = kRows * kVectors >= 24;

  // A thread makes one before products of `count` rows: what they need of the processor beside code.
  struct Prepared {
    explicit Prepared(int64_t count) {}
  };

  static int64_t packed_size(int64_t inner, int64_t columns) {
    return inner * ((columns + kWidth - 1) / kWidth * kWidth);
  }

  // packed[i][c] is row i, column c of the two; zeros past `columns`.
  template <typename S>
  static void pack(const Matrix<S>& upper, const Matrix<S>& lower, int64_t columns, T* packed) {
    for (const Matrix<S>* m : {&upper, &lower}) {
      m->column_stride == 1 ? pack_rows(m->values, m->inner, columns, m->row_stride, packed)
                            : pack_columns(m->values, m->inner, columns, m->column_stride, packed);
      packed += m->inner * kWidth;
    }
  }

  template <typename S>
  static void pack_rows(const S* panel, int64_t inner, int64_t count, int64_t stride, T* packed) {
    for (int64_t i = 0; i < inner; ++i, panel += stride, packed += kWidth) {
#pragma GCC ivdep
      for (int64_t c = 0; c < count; ++c) packed[c] = T(panel[c]);
      for (int64_t c = count; c < kWidth; ++c) packed[c] = T(0);
    }
  }

  // By squares of a cache line's length, so that each line is read once.
  template <typename S>
  static void pack_columns(const S* panel, int64_t inner, int64_t count, int64_t stride, T* packed) {
    constexpr int64_t kSide = 64 / sizeof(S);
    for (int64_t begin = 0; begin < inner; begin += kSide)
      for (int64_t c = 0, end = begin + kSide < inner ? begin + kSide : inner; c < kWidth; c += 4) {
        int64_t i = begin;
        for (; c + 4 <= count && i + 4 <= end; i += 4)
          transpose(panel + c * stride + i, stride, packed + i * kWidth + c);
        for (; i < end; ++i)
          for (int64_t n = c; n < c + 4; ++n)
            packed[i * kWidth + n] = n < count ? T(panel[n * stride + i]) : T(0);
      }
  }

  // to[j * kWidth + n] = from[n * stride + j], for j and n below 4.
  template <typename S>
  static void transpose(const S* from, int64_t stride, T* to) {
    typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(alignof(T)), may_alias));
    Four row[4];
    for (int64_t n = 0; n < 4; ++n, from += stride)
      row[n] = Four{T(from[0]), T(from[1]), T(from[2]), T(from[3])};
    for (int64_t j = 0; j < 4; ++j)
      *(Four*)(to + j * kWidth) = Four{row[0][j], row[1][j], row[2][j], row[3][j]};
  }

  // kAsk: beside each row of w, for a cache line of `ahead`. A call costs nothing here, a copy for each cell
  // would.
  template <int R, bool kAsk>
  __attribute__((noinline)) static void rows(bool add, int64_t inner, const T* a, int64_t lda, const T* w,
      const T* ahead, Pace& pace, T* out, int64_t ldo) {
    const Pace p = pace;
    if constexpr (kBeside) pace.at += p.rate * inner;
    Vector sum[R][kVectors] = {};
    if (add)
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] = *(const Vector*)(out + r * ldo + v * kLanes);
#pragma GCC unroll 4
    for (int64_t i = 0, at = p.at; i < inner; ++i, at += p.rate, w += kWidth, ahead += kLine) {
      if constexpr (kBeside) __builtin_prefetch(p.list[at >> Pace::kPoint], 0, 2);
      if constexpr (kAsk) __builtin_prefetch(ahead, 0, 3);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r * lda + i] * *(const Vector*)(w + v * kLanes);
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVectors; ++v) *(Vector*)(out + r * ldo + v * kLanes) = sum[r][v];
  }

  // out [kRows, kWidth] += a^T w for a [inner, kRows] with row stride lda, w packed [inner, kWidth].
  __attribute__((always_inline)) static void add_outer(
      int64_t inner, const T* a, int64_t lda, const T* w, Pace& pace, T* out, int64_t ldo) {
    const Pace p = pace;
    kBeside ? void(pace.at += p.rate * inner) : pace.ask(inner);
    Vector sum[kRows][kVectors] = {};
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(out + r * ldo + v * kLanes, 1, 3);
#pragma GCC unroll 4
    for (int64_t i = 0, at = p.at; i < inner; ++i, at += p.rate, a += lda, w += kWidth) {
      if constexpr (kBeside) __builtin_prefetch(p.list[at >> Pace::kPoint], 0, 2);
      for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r] * *(const Vector*)(w + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r)
      for (int v = 0; v < kVectors; ++v) *(Vector*)(out + r * ldo + v * kLanes) += sum[r][v];
  }

  // `count` rows, R at the most.
  template <int R, bool kAsk>
  static void some_rows(int64_t count, bool add, int64_t inner, const T* a, int64_t lda, const T* w,
      const T* ahead, Pace& pace, T* out, int64_t ldo) {
    if constexpr (R > 0) {
      if (count == R) return rows<R, kAsk>(add, inner, a, lda, w, ahead, pace, out, ldo);
      some_rows<R - 1, kAsk>(count, add, inner, a, lda, w, ahead, pace, out, ldo);
    }
  }

  // a [count, inner] with row stride lda; out [count, panels * kWidth] with row stride ldo; kRows rows at a
  // time, or equal parts of fewer. Asks for `lines` meanwhile, and calls then(row, end, column) after it has
  // computed rows row .. end - 1 of the panel whose first column that is.
  template <typename Then>
  static void product(int64_t count, int64_t inner, const T* a, int64_t lda, const T* packed, int64_t panels,
      const Lines& lines, T* out, int64_t ldo, Then&& then) {
    inner * panels * kWidth < kFar
        ? blocks<false>(count, inner, a, lda, packed, panels, lines, out, ldo, then)
        : blocks<true>(count, inner, a, lda, packed, panels, lines, out, ldo, then);
  }

 private:
  template <bool kAsk, typename Then>
  static void blocks(int64_t count, int64_t inner, const T* a, int64_t lda, const T* packed, int64_t panels,
      const Lines& lines, T* out, int64_t ldo, Then&& then) {
    const int64_t parts = (count + kRows - 1) / kRows;
    Pace pace(lines, panels * inner * parts);
    for (int64_t p = 0; p < panels; ++p)
      for (int64_t first = 0; first < inner; first += kDepth)
        for (int64_t i = 0, r = 0, end; i < parts; ++i, r = end) {
          end = count * (i + 1) / parts;
          const int64_t left = inner - first;
          if constexpr (!kBeside) pace.ask(left < kDepth ? left : kDepth);
          const T* const w = packed + (p * inner + first) * kWidth;
          some_rows<kRows, kAsk>(end - r, first > 0, left < kDepth ? left : kDepth, a + r * lda + first, lda,
              w, w + kDepth * (kWidth + i * kLine % kWidth), pace, out + r * ldo + p * kWidth, ldo);
          if (left <= kDepth) then(r, end, p * kWidth);
        }
  }
};

}  // namespace
}  // namespace crnn
