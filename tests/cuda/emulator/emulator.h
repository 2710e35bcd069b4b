// csrc/cuda/device.cuh for an ordinary C++ compiler: a kernel runs on the processor, a fibre a thread.
//
//   order      blocks one after another; in a block a warp runs until its lanes wait for others. Equal runs.
//              Of a cluster, the first block runs to its first cluster barrier, then the second, ...
//   collective a lane that calls one waits until the 32 of its warp called the same one; the last computes it
//   races      each two bytes of shared memory remember who read and wrote them since which barrier; two
//              threads on one place without a barrier between them, one of them writing, is an error
//   copies     asynchronous ones arrive when their thread waits for them; touching their target before that,
//              or from another thread before a barrier, is an error
//   faults     the first one ends the launch with an exception that names kernel, block and thread
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define CRNN_KERNEL(threads, blocks) void
#define CRNN_DEVICE inline
#define CRNN_ARGUMENT const

namespace crnn {

using Half = c10::Half;
using BFloat16 = c10::BFloat16;

template <typename T, typename S>
T widen(S v) {
  return T(v);
}
template <typename S, typename T>
S narrow(T v) {
  return S(v);
}

struct Grid {
  int64_t x, y = 1;
  int threads;
  int64_t shared_bytes = 0;
  int cluster = 1;  // blocks, neighbours along y, that run at the same time
};

namespace emulator {

// Runs `body` once for every thread of the grid. Throws std::runtime_error at the first fault.
void run(const char* kernel, const Grid& grid, const std::function<void()>& body);

// The thread that runs now.
struct Place {
  int thread, block_x, block_y, threads, blocks_x;
};
extern Place here;

void block_barrier();
void warp_barrier();
void cluster_barrier();

// Gives this lane's `arguments` to the collective `name`; the last lane calls compute(all 32 of them).
void collective(const char* name, void* arguments, void (*compute)(void* const* lanes));

enum class Access { kRead, kWrite };
// Notes an access by this thread, or with `whole_warp` by all lanes; returns the place in memory.
unsigned char* touch(uint32_t address, uint32_t bytes, Access access, bool whole_warp = false);

void copy_async(uint32_t address, const void* global, bool valid);
void copy_async_commit();
void copy_async_wait(int pending);

}  // namespace emulator

template <typename Params>
void launch(const char* name, void (*kernel)(Params), const Grid& grid, void*, const Params& params) {
  emulator::run(name, grid, [&] { kernel(params); });
}

namespace device {

inline int thread() {
  return emulator::here.thread;
}
inline int lane() {
  return emulator::here.thread % 32;
}
inline int warp() {
  return emulator::here.thread / 32;
}
inline int threads() {
  return emulator::here.threads;
}
inline int block_x() {
  return emulator::here.block_x;
}
inline int block_y() {
  return emulator::here.block_y;
}
inline int blocks_x() {
  return emulator::here.blocks_x;
}
inline void block_barrier() {
  emulator::block_barrier();
}
inline void warp_barrier() {
  emulator::warp_barrier();
}
constexpr bool kClusters = true;
inline void cluster_barrier() {
  emulator::cluster_barrier();
}

template <typename T>
T shuffle_xor(T v, int mask) {
  struct Lane {
    T in, out;
    int mask;
  } lane{v, v, mask};
  emulator::collective("shuffle_xor", &lane, [](void* const* lanes) {
    for (int l = 0; l < 32; ++l) {
      Lane& to = *static_cast<Lane*>(lanes[l]);
      to.out = static_cast<Lane*>(lanes[l ^ to.mask])->in;
    }
  });
  return lane.out;
}

template <typename T>
T load_shared(uint32_t address) {
  T v;
  std::memcpy(&v, emulator::touch(address, sizeof(T), emulator::Access::kRead), sizeof(T));
  return v;
}
template <typename T>
void store_shared(uint32_t address, T v) {
  std::memcpy(emulator::touch(address, sizeof(T), emulator::Access::kWrite), &v, sizeof(T));
}

struct alignas(16) Sixteen {
  uint32_t word[4];
};

inline void copy_async(uint32_t address, const void* global, bool valid) {
  emulator::copy_async(address, global, valid);
}
inline void copy_async_commit() {
  emulator::copy_async_commit();
}
template <int kPending>
void copy_async_wait() {
  emulator::copy_async_wait(kPending);
}

void load_matrices(uint32_t (&r)[4], uint32_t address);
void load_matrices_transposed(uint32_t (&r)[2], uint32_t address);
void load_matrices_transposed(uint32_t (&r)[4], uint32_t address);
void store_matrices_transposed(uint32_t address, const uint32_t (&r)[2]);

template <typename S>
void multiply(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

uint32_t tf32(float v);

}  // namespace device
}  // namespace crnn
