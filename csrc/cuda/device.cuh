// The device as the kernels see it: threads, barriers, shared memory, asynchronous copies, matrix units.
//
// Kernels use these functions and nothing else of CUDA, so that the emulator of tests/cuda, which gives every
// function here a second body for an ordinary C++ compiler, runs the same kernels on a processor.
//
//   shared memory   one dynamic array a block; an address is a byte offset into it
//   collective      all 32 lanes of a warp must call it together
//   fragments       what a lane holds of a matrix: PTX manual, "Matrix Fragments for mma.m16n8k16" and
//                   ".m16n8k8" (tf32); row-major A, column-major B. In short, for lane l, with r = l / 4,
//                   c = l % 4:  C[0..3] = C(r, 2c), C(r, 2c + 1), C(r + 8, 2c), C(r + 8, 2c + 1)
#pragma once

#if !defined(__CUDACC__)
#include "emulator.h"
#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#define CRNN_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define CRNN_DEVICE __device__ __forceinline__
#define CRNN_ARGUMENT const __grid_constant__  // of a kernel: read where it lies, never copied

namespace crnn {

using Half = __half;
using BFloat16 = __nv_bfloat16;

// Values in memory are of type S; T computes: S itself, or float for the two-byte types.
template <typename T, typename S>
CRNN_DEVICE T widen(S v) {
  return T(v);
}
template <>
CRNN_DEVICE float widen(Half v) {
  return __half2float(v);
}
template <>
CRNN_DEVICE float widen(BFloat16 v) {
  return __bfloat162float(v);
}
template <typename S, typename T>
CRNN_DEVICE S narrow(T v) {
  return S(v);
}
template <>
CRNN_DEVICE Half narrow(float v) {
  return __float2half_rn(v);
}
template <>
CRNN_DEVICE BFloat16 narrow(float v) {
  return __float2bfloat16_rn(v);
}

namespace device {

CRNN_DEVICE int thread() {
  return threadIdx.x;
}
CRNN_DEVICE int lane() {
  return threadIdx.x & 31;
}
CRNN_DEVICE int warp() {
  return threadIdx.x >> 5;
}
CRNN_DEVICE int threads() {
  return blockDim.x;
}
CRNN_DEVICE int block_x() {
  return blockIdx.x;
}
CRNN_DEVICE int block_y() {
  return blockIdx.y;
}
CRNN_DEVICE int blocks_x() {
  return gridDim.x;
}

// After it every thread of the block sees what the others wrote before it.
CRNN_DEVICE void block_barrier() {
  __syncthreads();
}
CRNN_DEVICE void warp_barrier() {
  __syncwarp();
}
// Whether this compilation knows clusters: blocks that run at the same time (Grid::cluster). sm_80 has none.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool kClusters = false;
#else
constexpr bool kClusters = true;
#endif
// After it every thread of the block's cluster sees what the others wrote before it, in global memory too.
CRNN_DEVICE void cluster_barrier() {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  asm volatile(
      "barrier.cluster.arrive.release.aligned;\n"
      "barrier.cluster.wait.acquire.aligned;" ::
          : "memory");
#endif
}
// The value of the lane whose number differs by the bits of `mask`. Collective.
template <typename T>
CRNN_DEVICE T shuffle_xor(T v, int mask) {
  return __shfl_xor_sync(~0u, v, mask);
}

extern __shared__ __align__(128) unsigned char shared_array[];

template <typename T>
CRNN_DEVICE T load_shared(uint32_t address) {
  return *reinterpret_cast<const T*>(shared_array + address);
}
template <typename T>
CRNN_DEVICE void store_shared(uint32_t address, T v) {
  *reinterpret_cast<T*>(shared_array + address) = v;
}
CRNN_DEVICE uint32_t window(uint32_t address) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared_array)) + address;
}

// 16 bytes, both sides aligned.
struct alignas(16) Sixteen {
  uint32_t word[4];
};

// Starts to copy 16 bytes from global to shared memory; zeros where not `valid`. They may be read after
// copy_async_wait by this thread, and after a barrier that follows it by the others.
CRNN_DEVICE void copy_async(uint32_t address, const void* global, bool valid) {
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(window(address)), "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}
// Ends a group of this thread's copies, perhaps an empty one.
CRNN_DEVICE void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until no more than the kPending newest groups of this thread are under way.
template <int kPending>
CRNN_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of two-byte values: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes) and
// gets in r[i] the values (l / 4, 2 (l % 4)) and the one to its right of matrix i. Collective.
CRNN_DEVICE void load_matrices(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(window(address))
      : "memory");
}
// The same, transposed, of two matrices: lanes 0-15 give the addresses, r[i] holds (2 (l % 4), l / 4) and the
// one below it.
CRNN_DEVICE void load_matrices_transposed(uint32_t (&r)[2], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
      : "=r"(r[0]), "=r"(r[1])
      : "r"(window(address))
      : "memory");
}
// Four of them.
CRNN_DEVICE void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
      : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
      : "r"(window(address))
      : "memory");
}
// The reverse of the first. Every lane gives an address; those of lanes 0-15 count.
CRNN_DEVICE void store_matrices_transposed(uint32_t address, const uint32_t (&r)[2]) {
#if __CUDA_ARCH__ >= 900
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(window(address)),
      "r"(r[0]), "r"(r[1])
      : "memory");
#else  // sm_80 has no stmatrix: transpose in registers, then a lane stores four bytes of row l / 4
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    uint32_t row;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(row) : "r"(r[i]));
    store_shared<uint32_t>(__shfl_sync(~0u, address, i * 8 + lane() / 4) + lane() % 4 * 4, row);
  }
#endif
}

// C += A B: A 16x16, B 16x8 of S, C float. Collective.
template <typename S>
CRNN_DEVICE void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
CRNN_DEVICE void multiply<BFloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
CRNN_DEVICE void multiply<Half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// The same for A 16x8, B 8x8 of tf32: floats of which the matrix unit reads the upper 19 bits.
template <>
CRNN_DEVICE void multiply<float>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// The tf32 nearest to v (ties away from zero), as bits of a float. Volatile: never kept in a register from
// step to step, where W_hh's own words need them.
CRNN_DEVICE uint32_t tf32(float v) {
  uint32_t bits;
  asm volatile("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
}

}  // namespace device
}  // namespace crnn

#endif
