// Rows of channels as the kernels of scan_gemm and scan_gemm_relu take them: a block a row, kWide channels of
// a thread at once.
#pragma once

#include "device.cuh"
#include "scan_call.h"

namespace crnn {

constexpr int kGemmThreads = 256;  // at most

// kWide channels of one tensor, brought at once.
template <typename S, int kWide>
struct alignas(sizeof(S) * kWide) Pack {
  S values[kWide];
};

template <typename S, typename T, int kWide>
CRNN_DEVICE void load(T (&values)[kWide], const void* data, int64_t index) {
  const Pack<S, kWide> pack = *reinterpret_cast<const Pack<S, kWide>*>(static_cast<const S*>(data) + index);
#pragma unroll
  for (int w = 0; w < kWide; ++w) values[w] = widen<T>(pack.values[w]);
}

template <typename S, typename T, int kWide>
CRNN_DEVICE void store(void* data, int64_t index, const T (&values)[kWide]) {
  Pack<S, kWide> pack;
#pragma unroll
  for (int w = 0; w < kWide; ++w) pack.values[w] = narrow<S>(values[w]);
  *reinterpret_cast<Pack<S, kWide>*>(static_cast<S*>(data) + index) = pack;
}

// Channel w of some packs, and back.
template <int kCount, typename T, int kSize, int kWide>
CRNN_DEVICE void gather(T (&one)[kSize], const T (&packs)[kSize][kWide], int w) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) one[i] = packs[i][w];
}
template <int kCount, typename T, int kSize, int kWide>
CRNN_DEVICE void scatter(T (&packs)[kSize][kWide], const T (&one)[kSize], int w) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) packs[i][w] = one[i];
}

// A masked cell's bits of a row, from the state as this thread stored it: a byte from 8 / kWide lanes.
template <typename S, int kWide>
CRNN_DEVICE void store_signs(const ForwardCall& call, int64_t row) {
  for (int64_t first = 0; first < call.D; first += device::threads() * kWide) {
    const int64_t d = first + device::thread() * kWide;
    float h[kWide] = {};
    if (d < call.D) load<S>(h, call.state, row * call.D + d);
    unsigned bits = 0;
#pragma unroll
    for (int w = 0; w < kWide; ++w) bits |= unsigned(h[w] > 0) << (d % 8 + w);
#pragma unroll
    for (int lanes = 1; lanes < 8 / kWide; lanes *= 2) bits |= device::shuffle_xor(bits, lanes);
    if (d < call.D && d % 8 == 0)
      static_cast<unsigned char*>(call.saved)[row * mask_bytes(call.D) + d / 8] =
          static_cast<unsigned char>(bits);
  }
}

// Them again, as 1 and 0.
template <int kWide, typename T>
CRNN_DEVICE void load_signs(T (&values)[kWide], const BackwardCall& call, int64_t row, int64_t d) {
  const unsigned bits = static_cast<const unsigned char*>(call.saved)[row * mask_bytes(call.D) + d / 8];
#pragma unroll
  for (int w = 0; w < kWide; ++w) values[w] = T(bits >> (d % 8 + w) & 1);
}

// The sum of v over the block's threads, in a fixed order. Each call of a kernel needs a `slot` of its own.
template <typename T>
CRNN_DEVICE T block_sum(T v, int slot) {
  constexpr int kWarps = kGemmThreads / 32;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += device::shuffle_xor(v, mask);
  const uint32_t address = slot * kWarps * sizeof(T);
  if (device::lane() == 0) device::store_shared(address + device::warp() * uint32_t(sizeof(T)), v);
  device::block_barrier();
  T sum = 0;
  for (int w = 0; w < device::threads() / 32; ++w)
    sum += device::load_shared<T>(address + w * uint32_t(sizeof(T)));
  return sum;
}
constexpr int64_t kGemmSlots = 4;

}  // namespace crnn
