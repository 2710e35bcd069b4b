// The collective matrix operations of device.cuh, by the tables of the PTX manual.
#include <cstring>

#include "emulator.h"

namespace crnn::device {
namespace {

using emulator::Access;
using emulator::collective;
using emulator::touch;

struct MatrixLane {
  uint32_t* r;
  uint32_t address;
};

// Row `row` of 8x8 matrix `matrix`: eight two-byte values at the address that lane 8 * matrix + row gave.
uint16_t* row_of(void* const* lanes, int matrix, int row, Access access) {
  const uint32_t address = static_cast<const MatrixLane*>(lanes[matrix * 8 + row])->address;
  return reinterpret_cast<uint16_t*>(touch(address, 16, access, true));
}

uint32_t* registers(void* const* lanes, int lane) {
  return static_cast<const MatrixLane*>(lanes[lane])->r;
}

void load_plain(void* const* lanes) {
  for (int m = 0; m < 4; ++m)
    for (int row = 0; row < 8; ++row) {
      const uint16_t* values = row_of(lanes, m, row, Access::kRead);
      for (int c = 0; c < 4; ++c) std::memcpy(&registers(lanes, row * 4 + c)[m], values + 2 * c, 4);
    }
}

template <int kCount>
void load_transposed(void* const* lanes) {
  for (int m = 0; m < kCount; ++m)
    for (int row = 0; row < 8; ++row) {
      const uint16_t* values = row_of(lanes, m, row, Access::kRead);
      for (int column = 0; column < 8; ++column) {  // element (row, column) goes where (column, row) would
        char* r = reinterpret_cast<char*>(&registers(lanes, column * 4 + row / 2)[m]);
        std::memcpy(r + row % 2 * 2, values + column, 2);
      }
    }
}

void store_transposed(void* const* lanes) {
  for (int m = 0; m < 2; ++m)
    for (int row = 0; row < 8; ++row) {
      uint16_t* values = row_of(lanes, m, row, Access::kWrite);
      for (int column = 0; column < 8; ++column) {
        const char* r = reinterpret_cast<const char*>(&registers(lanes, column * 4 + row / 2)[m]);
        std::memcpy(values + column, r + row % 2 * 2, 2);
      }
    }
}

struct MultiplyLane {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

// What lane l holds of A [16, kDepth] and B [kDepth, 8] in its registers: PTX manual, fragments of
// mma.m16n8k16 (two-byte types, two values a register) and mma.m16n8k8 (tf32, one value a register).
template <typename S>
struct Fragment {
  static constexpr int kDepth = 16;
  static float value(uint32_t bits, int half) {
    S v;
    std::memcpy(&v, reinterpret_cast<const char*>(&bits) + 2 * half, 2);
    return float(v);
  }
  static void read(const MultiplyLane& lane, int l, float (*a)[kDepth], float (*b)[8]) {
    const int group = l / 4, in_group = l % 4;
    for (int i = 0; i < 8; ++i)
      a[group + (i / 2 % 2) * 8][in_group * 2 + i % 2 + (i / 4) * 8] = value(lane.a[i / 2], i % 2);
    for (int i = 0; i < 4; ++i) b[in_group * 2 + i % 2 + (i / 2) * 8][group] = value(lane.b[i / 2], i % 2);
  }
};
template <>
struct Fragment<float> {
  static constexpr int kDepth = 8;
  static float value(uint32_t bits) {
    bits &= ~((1u << 13) - 1);  // the unit does not read the lower 13 bits
    float v;
    std::memcpy(&v, &bits, 4);
    return v;
  }
  static void read(const MultiplyLane& lane, int l, float (*a)[kDepth], float (*b)[8]) {
    const int group = l / 4, in_group = l % 4;
    for (int i = 0; i < 4; ++i) a[group + (i % 2) * 8][in_group + (i / 2) * 4] = value(lane.a[i]);
    for (int i = 0; i < 2; ++i) b[in_group + i * 4][group] = value(lane.b[i]);
  }
};

template <typename S>
void multiply_warp(void* const* lanes) {
  constexpr int kDepth = Fragment<S>::kDepth;
  float a[16][kDepth], b[kDepth][8], c[16][8] = {};
  for (int l = 0; l < 32; ++l) Fragment<S>::read(*static_cast<const MultiplyLane*>(lanes[l]), l, a, b);
  for (int i = 0; i < 16; ++i)
    for (int k = 0; k < kDepth; ++k)
      for (int j = 0; j < 8; ++j) c[i][j] += a[i][k] * b[k][j];
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i)
      static_cast<MultiplyLane*>(lanes[l])->c[i] += c[l / 4 + (i / 2) * 8][l % 4 * 2 + i % 2];
}

}  // namespace

void load_matrices(uint32_t (&r)[4], uint32_t address) {
  MatrixLane lane{r, address};
  collective("load_matrices", &lane, load_plain);
}

void load_matrices_transposed(uint32_t (&r)[2], uint32_t address) {
  MatrixLane lane{r, address};
  collective("load_matrices_transposed of 2", &lane, load_transposed<2>);
}

void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  MatrixLane lane{r, address};
  collective("load_matrices_transposed of 4", &lane, load_transposed<4>);
}

void store_matrices_transposed(uint32_t address, const uint32_t (&r)[2]) {
  MatrixLane lane{const_cast<uint32_t*>(r), address};
  collective("store_matrices_transposed", &lane, store_transposed);
}

template <typename S>
void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  MultiplyLane lane{c, a, {b0, b1}};
  collective("multiply", &lane, multiply_warp<S>);
}
template void multiply<BFloat16>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);
template void multiply<Half>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);
template void multiply<float>(float (&)[4], const uint32_t (&)[4], uint32_t, uint32_t);

uint32_t tf32(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  if ((bits & 0x7F800000u) != 0x7F800000u) bits += 1u << 12;  // to nearest, ties away from zero
  return bits & ~((1u << 13) - 1);
}

}  // namespace crnn::device
