// AMX's tiles for any processor: what the kernels use of them, after Intel's manual (SDM volume 2: TILELOADD,
// TDPBF16PS, ...). Stands in the way of the compiler's <immintrin.h>. What would fault there throws here.
#pragma once

#include_next <immintrin.h>

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace amx_emulator {

struct Tile {
  int rows = 0, bytes = 0;  // of a row; 0 where the tile is not configured
  unsigned char data[16][64];
};

inline thread_local Tile tiles[8];
inline std::atomic<int> configured{0};  // threads whose tiles are: probe.cpp

inline void require(bool condition, const char* what) {
  if (!condition) throw std::runtime_error(std::string("AMX: ") + what);
}

inline Tile& tile(int i) {
  require(tiles[i].rows > 0, "a tile is used that is not configured");
  return tiles[i];
}

inline void load_config(const void* memory) {
  unsigned char config[64];
  std::memcpy(config, memory, 64);
  require(config[0] == 1, "the palette is not 1");
  for (int i = 1; i < 16; ++i) require(config[i] == 0, "a reserved byte is not 0");
  if (tiles[0].rows == 0) ++configured;
  for (int i = 0; i < 8; ++i) {
    uint16_t bytes = 0;
    std::memcpy(&bytes, config + 16 + 2 * i, 2);
    const int rows = config[48 + i];
    require(rows <= 16 && bytes <= 64 && (rows == 0) == (bytes == 0), "a tile's shape is not one");
    tiles[i] = Tile{rows, bytes, {}};
  }
}

inline void release() {
  if (tiles[0].rows > 0) --configured;
  for (Tile& t : tiles) t = Tile{};
}

inline void load(int to, const void* base, long stride) {
  Tile& t = tile(to);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(t.data[r], static_cast<const unsigned char*>(base) + r * stride, t.bytes);
}

inline void store(int from, void* base, long stride) {
  Tile& t = tile(from);
  for (int r = 0; r < t.rows; ++r)
    std::memcpy(static_cast<unsigned char*>(base) + r * stride, t.data[r], t.bytes);
}

inline void zero(int to) {
  std::memset(tile(to).data, 0, sizeof(Tile::data));
}

inline float flushed(float value) {  // denormals count as zero
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.f, value) : value;
}

// The bfloat16 at place `at` of a row.
inline float bf16(const unsigned char* row, int at) {
  uint32_t bits = 0;
  std::memcpy(reinterpret_cast<unsigned char*>(&bits) + 2, row + 2 * at, 2);
  float value;
  std::memcpy(&value, &bits, 4);
  return flushed(value);
}

// to [rows, n] += a [rows, 2 k] b [k, n, 2]: even and odd products in a sum each, then both onto `to`.
inline void dpbf16ps(int to, int a, int b) {
  Tile &sum = tile(to), &left = tile(a), &right = tile(b);
  require(sum.rows == left.rows && sum.bytes == right.bytes && left.bytes == 4 * right.rows,
      "shapes of a product do not fit");
  for (int m = 0; m < sum.rows; ++m)
    for (int n = 0; n < sum.bytes / 4; ++n) {
      float even = 0, odd = 0, value;
      for (int k = 0; k < right.rows; ++k) {
        even = flushed(std::fma(bf16(left.data[m], 2 * k), bf16(right.data[k], 2 * n), even));
        odd = flushed(std::fma(bf16(left.data[m], 2 * k + 1), bf16(right.data[k], 2 * n + 1), odd));
      }
      std::memcpy(&value, sum.data[m] + 4 * n, 4);
      value = flushed(flushed(value) + flushed(even + odd));
      std::memcpy(sum.data[m] + 4 * n, &value, 4);
    }
}

}  // namespace amx_emulator

#undef _tile_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_emulator::load_config
#define _tile_release amx_emulator::release
#define _tile_loadd amx_emulator::load
#define _tile_stored amx_emulator::store
#define _tile_zero amx_emulator::zero
#define _tile_dpbf16ps amx_emulator::dpbf16ps
