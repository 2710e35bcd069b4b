// scan_resident in the table of variants: which of its kernels takes a problem.
#include "resident_kernels.h"
#include "scan_variants.h"
#include "tile_rule.h"

namespace crnn {
namespace {

template <bool kTf32>
ResidentKernels kernels(Dtype dtype) {
  if (kTf32) return dtype == Dtype::kFloat ? resident_tf32() : ResidentKernels();
  switch (dtype) {
    case Dtype::kBFloat16:
      return resident_bf16();
    case Dtype::kHalf:
      return resident_half();
    case Dtype::kFloat:
      return resident_float();
    default:
      return {};
  }
}

template <bool kTf32>
const ResidentKernel* find(const ScanProblem& q, const DeviceInfo& device) {
  return find_kernel(kernels<kTf32>(q.dtype), q, device,
      [&](const ResidentKernel& k) { return q.backward ? k.backward_bytes : k.forward_bytes; });
}

template <bool kTf32>
const char* misfit(const ScanProblem& q, const DeviceInfo& device) {
  if (device.capability < 80) return "needs compute capability 8.0";
  if (kTf32 && q.exact) return "rounds products to tf32, which was not allowed";
  if (!q.aligned) return "needs rows that begin at multiples of 16 bytes";
  if (!q.small) return "needs fewer than 2^31 positions and chains";
  if (!find<kTf32>(q, device)) return "has no kernel of this cell and dtype for so many channels";
  return nullptr;
}

template <bool kTf32>
int64_t tile(const ScanProblem& q, const DeviceInfo& device) {
  return find<kTf32>(q, device)->N;
}

int64_t no_scratch(const ScanProblem&, int64_t) {
  return 0;
}

template <bool kTf32>
void forward(
    const ScanProblem& q, const DeviceInfo& device, const ForwardCall& c, int directions, void* stream) {
  const ResidentKernel* k = find<kTf32>(q, device);
  k->forward(c, tiles_of(q, k->N), directions, stream);
}

template <bool kTf32>
void backward(
    const ScanProblem& q, const DeviceInfo& device, const BackwardCall& c, int directions, void* stream) {
  const ResidentKernel* k = find<kTf32>(q, device);
  k->backward(c, tiles_of(q, k->N), directions, stream);
}

}  // namespace

const ScanVariant scan_resident = {
    "resident", misfit<false>, tile<false>, no_scratch, forward<false>, backward<false>};
const ScanVariant scan_resident_tf32 = {
    "resident_tf32", misfit<true>, tile<true>, no_scratch, forward<true>, backward<true>};

}  // namespace crnn
