// Which of a table's kernels takes a problem: how many chains a block.
#pragma once

#include <span>

#include "scan_call.h"

namespace crnn {

inline int64_t tiles_of(const ScanProblem& q, int64_t chains) {
  return (q.chains + chains - 1) / chains;
}

// Of the kernels for the least D that holds q.D: the one of fewest chains a block whose blocks the device can
// run at once, so that all its multiprocessors work; the one of most chains if there is none. Null where no
// kernel takes the cell, the channels or `bytes(kernel)` of shared memory.
template <typename Kernel, typename Bytes>
const Kernel* find_kernel(
    std::span<const Kernel> kernels, const ScanProblem& q, const DeviceInfo& device, Bytes&& bytes) {
  const Kernel* best = nullptr;
  for (const Kernel& k : kernels) {
    if (k.cell != q.cell || k.D < q.D || bytes(k) > device.shared_memory) continue;
    if (best && k.D > best->D) break;
    best = &k;
    if (tiles_of(q, k.N) * q.K * k.threads <= device.multiprocessors * int64_t(256)) break;
  }
  return best;
}

}  // namespace crnn
