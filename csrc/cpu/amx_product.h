// The scan's products for bfloat16 by AMX. Included by tile_amx.cpp after it has chosen the instruction set.
//
//   rounding  a (h, the reset h, d z) is rounded to bfloat16; W_hh is taken as it is; products are exact and
//             summed in float. All else of a step, h between steps included, stays float as in every variant.
//   tiles     0..3 accumulate; 4, 5 hold rows of a; 6, 7 hold 16 columns each of W_hh. More than 16 chains:
//             two halves of the rows times two tiles of columns. Fewer: their rows times four tiles.
//   memory    a panel of W_hh is 32 columns; a block of it 32 rows, in pairs, as two tiles of 1 KiB in turn
//   order     an output is one sum over the blocks in order: its bits do not depend on the rows beside it
#pragma once

#include "panel_product.h"
#include "tile.h"

namespace crnn {
namespace {

using torch::headeronly::BFloat16;

struct AmxProduct : Blocked<float, 64, 2, 12> {
  static constexpr int64_t kRows = 16, kTileRow = 64, kTileValues = 512;  // of a tile; its row's bytes
  static constexpr int64_t kBlockDepth = 32;
  static constexpr int64_t kChunk = 512;  // of the inner dimension: its rows of a stay in first-level cache
  static_assert(kTile <= 2 * kRows && kWidth == 2 * kRows);

  static int64_t depth(int64_t inner) { return (inner + kBlockDepth - 1) / kBlockDepth * kBlockDepth; }

  // In floats: a bfloat16 takes the room of half of one.
  static int64_t packed_size(int64_t inner, int64_t columns) {
    return depth(inner) * ((columns + kWidth - 1) / kWidth * kWidth) / 2;
  }

  static void pack(
      const Matrix<BFloat16>& upper, const Matrix<BFloat16>& lower, int64_t columns, float* packed) {
    auto* to = reinterpret_cast<BFloat16*>(packed);
    const int64_t inner = upper.inner + lower.inner;
    const auto at = [&](int64_t i, int64_t c) {
      const Matrix<BFloat16>& m = i < upper.inner ? upper : lower;
      return m.values[(i < upper.inner ? i : i - upper.inner) * m.row_stride + c * m.column_stride];
    };
    for (int64_t block = 0; block < inner; block += kBlockDepth)
      for (int64_t first = 0; first < kWidth; first += kRows)
        for (int64_t pair = block; pair < block + kBlockDepth; pair += 2)
          for (int64_t c = first; c < first + kRows; ++c)
            for (int64_t i = pair; i < pair + 2; ++i)
              *to++ = i < inner && c < columns ? at(i, c) : BFloat16(0.f);
  }

  // Of `count` chains, those in the first tile of rows; the others are in the second.
  static int64_t first_rows(int64_t count) { return count > kRows ? (count + 1) / 2 : count; }

  // As Blocked's; the calling thread has Prepared tiles for `count`.
  template <typename Then>
  static void product(int64_t count, int64_t inner, const float* a, int64_t lda, const float* packed,
      int64_t panels, const Lines& lines, float* out, int64_t ldo, Then&& then) {
    lines.ask();
    alignas(64) BFloat16 rounded[kTile * kChunk];
    const auto* w = reinterpret_cast<const BFloat16*>(packed);
    const int64_t size = depth(inner) * kWidth;  // of a panel
    for (int64_t i = 0; i < inner; i += kChunk) {
      const int64_t values = inner - i < kChunk ? inner - i : kChunk, length = depth(values);
      for (int64_t r = 0; r < count; ++r) round_row(values, a + r * lda + i, length, rounded + r * length);
      asm volatile("" : : "r"(rounded) : "memory");  // GCC's tile loads do not say that they read memory
      const BFloat16* block = w + i * kWidth;
      for (int64_t p = 0, end; p < panels; p = end) {
        end = count <= kRows && p + 1 < panels ? p + 2 : p + 1;
        if (count > kRows)
          two_rows(count, length, i == 0, rounded, block + p * size, out + p * kWidth, ldo);
        else if (end - p == 2)
          one_row<2>(length, i == 0, rounded, block + p * size, size, out + p * kWidth, ldo);
        else
          one_row<1>(length, i == 0, rounded, block + p * size, size, out + p * kWidth, ldo);
        for (int64_t done = p; i + kChunk >= inner && done < end; ++done) then(0, count, done * kWidth);
      }
    }
  }

  static void round_row(int64_t count, const float* from, int64_t padded, BFloat16* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = BFloat16(from[i]);
    for (int64_t i = count; i < padded; ++i) to[i] = BFloat16(0.f);
  }

  // Accumulators 0..3 (0 and 1 if not kAll): zero at first, then what has been summed so far.
  template <bool kAll>
  static void begin(bool first, const float* out, const float* second, int64_t line) {
    if (first) {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
      return;
    }
    _tile_loadd(0, out, line);
    _tile_loadd(1, out + kRows, line);
    if (!kAll) return;
    _tile_loadd(2, second, line);
    _tile_loadd(3, second + kRows, line);
  }

  template <bool kAll>
  static void end(float* out, float* second, int64_t line) {
    _tile_stored(0, out, line);
    _tile_stored(1, out + kRows, line);
    if (!kAll) return;
    _tile_stored(2, second, line);
    _tile_stored(3, second + kRows, line);
  }

  // out [count, kWidth] = a [count, length] times a panel's rows of this chunk; += after the first chunk.
  static void two_rows(int64_t count, int64_t length, bool first, const BFloat16* a, const BFloat16* w,
      float* out, int64_t ldo) {
    const int64_t upper = first_rows(count), row = length * sizeof(BFloat16), line = ldo * sizeof(float);
    float* const below = out + upper * ldo;
    begin<true>(first, out, below, line);
    for (int64_t i = 0; i < length; i += kBlockDepth, w += 2 * kTileValues) {
      _tile_loadd(4, a + i, row);
      _tile_loadd(6, w, kTileRow);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w + kTileValues, kTileRow);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, a + upper * length + i, row);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    end<true>(out, below, line);
  }

  // The same for one tile of rows and kPanels panels, `size` apart: four accumulators hide their latency.
  template <int kPanels>
  static void one_row(int64_t length, bool first, const BFloat16* a, const BFloat16* w, int64_t size,
      float* out, int64_t ldo) {
    const int64_t row = length * sizeof(BFloat16), line = ldo * sizeof(float);
    begin<kPanels == 2>(first, out, out + kWidth, line);
    for (int64_t i = 0; i < length; i += kBlockDepth, w += 2 * kTileValues) {
      _tile_loadd(4, a + i, row);
      _tile_loadd(6, w, kTileRow);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, w + kTileValues, kTileRow);
      _tile_dpbf16ps(1, 4, 7);
      if (kPanels == 2) {
        _tile_loadd(6, w + size, kTileRow);
        _tile_dpbf16ps(2, 4, 6);
        _tile_loadd(7, w + size + kTileValues, kTileRow);
        _tile_dpbf16ps(3, 4, 7);
      }
    }
    end<kPanels == 2>(out, out + kWidth, line);
  }

  // The calling thread's tiles, for products of `count` chains; released when it goes.
  struct Prepared {
    explicit Prepared(int64_t count) {
      struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {};  // of a row
        uint8_t rows[16] = {};
      } tiles;
      const int64_t upper = first_rows(count), lower = count > kRows ? count - upper : upper;
      const int64_t rows[8] = {upper, upper, lower, lower, upper, lower, kRows, kRows};
      for (int i = 0; i < 8; ++i) tiles.bytes[i] = kTileRow, tiles.rows[i] = rows[i];
      asm volatile("" : : "r"(&tiles) : "memory");
      _tile_loadconfig(&tiles);
    }
    ~Prepared() { _tile_release(); }
    Prepared(const Prepared&) = delete;
  };
};

}  // namespace
}  // namespace crnn
