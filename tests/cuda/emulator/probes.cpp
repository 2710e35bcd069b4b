// Ops that let the tests call the emulator's primitives one at a time, and kernels with one mistake each.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <string>

#include "device.cuh"
#include "runtime.h"
#include "scan_variants.h"

namespace {

using namespace crnn;
using torch::stable::Tensor;

// Runs body() on one warp whose shared memory begins as `memory`'s bytes and ends there.
template <typename Body>
void on_a_warp(Tensor& memory, Body&& body) {
  auto* values = static_cast<uint16_t*>(memory.mutable_data_ptr());
  const uint32_t size = uint32_t(memory.numel());
  emulator::run("probe", {1, 1, 32, size}, [&] {
    for (uint32_t i = device::lane(); i < size / 2; i += 32) device::store_shared(i * 2, values[i]);
    device::block_barrier();
    body();
    device::block_barrier();
    for (uint32_t i = device::lane(); i < size / 2; i += 32) values[i] = device::load_shared<uint16_t>(i * 2);
  });
}

// registers [32, 4 or 2] int32 <- memory [bytes] uint8 by addresses [32] int32
void load_matrices(Tensor registers, Tensor memory, Tensor addresses, bool transposed) {
  const auto* at = addresses.const_data_ptr<int32_t>();
  auto* out = registers.mutable_data_ptr<int32_t>();
  const int64_t count = registers.size(1);
  on_a_warp(memory, [&] {
    const int l = device::lane();
    uint32_t four[4] = {}, two[2] = {};
    if (!transposed) {
      device::load_matrices(four, at[l]);
    } else if (count == 4) {
      device::load_matrices_transposed(four, at[l]);
    } else {
      device::load_matrices_transposed(two, at[l]);
      four[0] = two[0], four[1] = two[1];
    }
    for (int i = 0; i < count; ++i) out[l * count + i] = int32_t(four[i]);
  });
}

// memory <- registers [32, 2]
void store_matrices(Tensor registers, Tensor memory, Tensor addresses) {
  const auto *at = addresses.const_data_ptr<int32_t>(), *in = registers.const_data_ptr<int32_t>();
  on_a_warp(memory, [&] {
    const int l = device::lane();
    const uint32_t two[2] = {uint32_t(in[l * 2]), uint32_t(in[l * 2 + 1])};
    device::store_matrices_transposed(at[l], two);
  });
}

// c [32, 4] float += a [32, 4] int32 times b [32, 2] int32, fragments of dtype
void multiply(Tensor c, Tensor a, Tensor b, std::string dtype) {
  auto* sum = c.mutable_data_ptr<float>();
  const auto *left = a.const_data_ptr<int32_t>(), *right = b.const_data_ptr<int32_t>();
  emulator::run("multiply", {1, 1, 32}, [&] {
    const int l = device::lane();
    float mine[4];
    uint32_t words[4];
    for (int i = 0; i < 4; ++i) mine[i] = sum[l * 4 + i], words[i] = uint32_t(left[l * 4 + i]);
    const uint32_t b0 = right[l * 2], b1 = right[l * 2 + 1];
    if (dtype == "bfloat16") device::multiply<BFloat16>(mine, words, b0, b1);
    if (dtype == "float16") device::multiply<Half>(mine, words, b0, b1);
    if (dtype == "tf32") device::multiply<float>(mine, words, b0, b1);
    for (int i = 0; i < 4; ++i) sum[l * 4 + i] = mine[i];
  });
}

void round_to_tf32(Tensor values) {
  auto* v = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < values.numel(); ++i) {
    const uint32_t bits = device::tf32(v[i]);
    std::memcpy(v + i, &bits, 4);
  }
}

// seen [x, y, steps] float: at step s each block of a cluster of all y writes 100 s + y to `written` [x, y],
// then, past a cluster barrier if so asked, reads what the next block of its cluster wrote.
void exchange(Tensor written, Tensor seen, bool barrier) {
  auto *global = written.mutable_data_ptr<float>(), *out = seen.mutable_data_ptr<float>();
  const int count = int(seen.size(1)), steps = int(seen.size(2));
  emulator::run("exchange", {seen.size(0), count, 64, 0, count}, [&] {
    const int x = device::block_x(), y = device::block_y();
    for (int s = 0; s < steps; ++s) {
      if (device::thread() == 63) global[x * count + y] = float(100 * s + y);
      if (barrier) device::cluster_barrier();
      if (device::thread() == 0) out[(x * count + y) * steps + s] = global[x * count + (y + 1) % count];
      if (barrier) device::cluster_barrier();
    }
  });
}

// values [32] float: each lane's becomes that of lane ^ mask
void shuffle(Tensor values, int64_t mask) {
  auto* v = values.mutable_data_ptr<float>();
  emulator::run("shuffle", {1, 1, 32}, [&] {
    const float got = device::shuffle_xor(v[device::lane()], int(mask));
    device::warp_barrier();
    v[device::lane()] = got;
  });
}

// Kernels of 64 threads, each with the mistake that its name says, or the cure of one.
void mistake(std::string which) {
  using device::thread;
  alignas(16) static const unsigned char source[64] = {};
  const auto run = [&](auto&& body) { emulator::run("mistaken", {1, 1, 64, 1024}, body); };
  if (which == "read before the barrier")
    run([&] {
      device::store_shared(thread() * 4, thread());
      if (thread() >= 32) device::load_shared<int>((thread() - 32) * 4);
    });
  if (which == "read after the barrier")
    run([&] {
      device::store_shared(thread() * 4, thread());
      device::block_barrier();
      if (device::load_shared<int>((thread() ^ 32) * 4) != (thread() ^ 32)) throw 0;
    });
  if (which == "write where another read")
    run([&] {
      device::store_shared(thread() * 4, thread());
      device::block_barrier();
      device::load_shared<int>(thread() * 4);
      if (thread() < 32) device::store_shared((thread() + 32) * 4, 1);
    });
  if (which == "two write") run([&] { device::store_shared(0, thread()); });
  if (which == "another warp after a warp barrier")
    run([&] {
      device::store_shared(thread() * 4, thread());
      device::warp_barrier();
      if (thread() >= 32) device::load_shared<int>((thread() - 32) * 4);
    });
  if (which == "its own warp after a warp barrier")
    run([&] {
      device::store_shared(thread() * 4, thread());
      device::warp_barrier();
      if (device::load_shared<int>((thread() ^ 1) * 4) != (thread() ^ 1)) throw 0;
    });
  if (which == "its own warp without a barrier")
    run([&] {
      device::store_shared(thread() * 4, thread());
      if (thread() % 2) device::load_shared<int>((thread() - 1) * 4);
    });
  if (which == "matrices of unwritten memory")
    run([&] {
      uint32_t r[4];
      device::load_matrices(r, thread() % 32 * 16);
    });
  if (which == "outside") run([&] { device::store_shared(1024 + thread() * 4, 1); });
  if (which == "not aligned") run([&] { device::store_shared(thread() * 8 + 2, 1); });
  if (which == "copy not waited for")
    run([&] {
      if (thread() == 0) device::copy_async(0, source, true);
      device::copy_async_commit();
      device::block_barrier();
      if (thread() == 0) device::load_shared<int>(0);
      device::copy_async_wait<0>();
    });
  if (which == "copy without a barrier")
    run([&] {
      if (thread() == 0) device::copy_async(0, source, true);
      device::copy_async_commit();
      device::copy_async_wait<0>();
      if (thread() == 32) device::load_shared<int>(0);
    });
  if (which == "copy with both")
    run([&] {
      if (thread() == 0) device::copy_async(0, source, true);
      device::copy_async_commit();
      device::copy_async_wait<0>();
      device::block_barrier();
      device::load_shared<int>(0);
    });
  if (which == "copy from an odd address")
    run([&] {
      if (thread() == 0) device::copy_async(0, source + 4, true);
      device::copy_async_commit();
      device::copy_async_wait<0>();
    });
  if (which == "copies under way at the end")
    run([&] {
      if (thread() == 0) device::copy_async(0, source, true);
      device::copy_async_commit();
    });
  if (which == "lanes at different collectives")
    run([&] { thread() % 2 ? device::warp_barrier() : (void)device::shuffle_xor(1.0f, 1); });
  if (which == "a thread that misses the barrier")
    run([&] {
      if (thread() != 5) device::block_barrier();
    });
  const auto run_cluster = [&](auto&& body) { emulator::run("mistaken", {1, 2, 64, 1024, 2}, body); };
  if (which == "a thread that misses the cluster barrier")
    run_cluster([&] {
      if (thread() != 5) device::cluster_barrier();
    });
  if (which == "threads at different barriers")
    run_cluster([&] { thread() < 32 ? device::cluster_barrier() : device::block_barrier(); });
  if (which == "a block that misses the cluster barrier")
    run_cluster([&] {
      if (device::block_y() == 0) device::cluster_barrier();
    });
  if (which == "read after the cluster barrier")
    run_cluster([&] {
      device::store_shared(thread() * 4, thread());
      device::cluster_barrier();
      if (device::load_shared<int>((thread() ^ 32) * 4) != (thread() ^ 32)) throw 0;
    });
}

// Chains that a block of scan_resident takes on the emulated device; 0 where it does not fit.
int64_t resident_tile(std::string cell, bool half, int64_t K, int64_t D, int64_t chains, bool backward) {
  const Dtype dtype = half ? Dtype::kBFloat16 : Dtype::kFloat;
  ScanProblem q{};
  q.cell = Cells::index(cell), q.dtype = dtype, q.N = chains, q.K = K, q.D = D, q.chains = chains;
  q.backward = backward, q.aligned = true, q.small = true, q.exact = true;
  return scan_resident.misfit(q, device_info(0)) ? 0 : scan_resident.tile(q, device_info(0));
}

}  // namespace

STABLE_TORCH_LIBRARY(crnn_emulator, m) {
  m.def("load_matrices(Tensor(a!) registers, Tensor(b!) memory, Tensor addresses, bool transposed) -> ()");
  m.def("store_matrices(Tensor registers, Tensor(a!) memory, Tensor addresses) -> ()");
  m.def("multiply(Tensor(a!) c, Tensor a, Tensor b, str dtype) -> ()");
  m.def("round_to_tf32(Tensor(a!) values) -> ()");
  m.def("shuffle(Tensor(a!) values, int mask) -> ()");
  m.def("exchange(Tensor(a!) written, Tensor(b!) seen, bool barrier) -> ()");
  m.def("mistake(str which) -> ()");
  m.def("resident_tile(str cell, bool half, int K, int D, int chains, bool backward) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(crnn_emulator, CompositeExplicitAutograd, m) {
  m.impl("load_matrices", TORCH_BOX(&load_matrices));
  m.impl("store_matrices", TORCH_BOX(&store_matrices));
  m.impl("multiply", TORCH_BOX(&multiply));
  m.impl("round_to_tf32", TORCH_BOX(&round_to_tf32));
  m.impl("shuffle", TORCH_BOX(&shuffle));
  m.impl("exchange", TORCH_BOX(&exchange));
  m.impl("mistake", TORCH_BOX(&mistake));
  m.impl("resident_tile", TORCH_BOX(&resident_tile));
}
