// spatial_scan on CUDA: checks the arguments, makes the results, picks a kernel and starts it.
#include "spatial_cuda.h"

#include "on_device.h"
#include "scan_boundary.h"
#include "spatial_call.h"
#include "tile_rule.h"

namespace crnn {
namespace {

constexpr int64_t kCluster = 8;  // blocks that every device with clusters can run at the same time

SpatialKernels kernels(const SpatialProblem& q) {
  if (q.dtype == Dtype::kBFloat16) return q.C > 0 ? projecting_bf16() : summing_bf16();
  if (q.dtype == Dtype::kHalf) return q.C > 0 ? projecting_half() : summing_half();
  return {};
}

const SpatialKernel* find(SpatialProblem q, const DeviceInfo& device) {
  q.D = std::max(q.D, q.C);  // a kernel takes as many of both
  return find_kernel(kernels(q), q, device, [](const SpatialKernel& k) { return k.forward_bytes; });
}

// Why no kernel can run `q` on `device`, or null where one can.
const char* misfit(const SpatialProblem& q, const DeviceInfo& device) {
  if (q.C == 0 && !q.summed) return "neither projects nor sums here: that is crnn::scan";
  if (device.capability < 80) return "needs compute capability 8.0";
  // Clusters begin with 9.0; what follows it runs the code for 8.0 (setup.py), which has none.
  if (q.summed && device.capability != 90) return "sums directions on compute capability 9.0 alone";
  if (q.summed && q.K > kCluster) return "sums at most 8 directions";
  if (q.summed && !q.same_positions)
    return "sums directions whose lines hold the same positions: with reset, rows or columns alone";
  if (!q.aligned) return "needs rows that begin at multiples of 16 bytes";
  if (!q.small) return "needs fewer than 2^31 positions and chains";
  if (!find(q, device)) return "has no kernel of this cell and dtype for so many channels";
  return nullptr;
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> spatial_scan_cuda(const Tensor& x, const OptionalTensor& w_ih,
    const OptionalTensor& bias, const Tensor& whh, const OptionalTensor& cell_params,
    std::vector<int64_t> plan, Text cell, Text combine, Text variant, bool states) {
  const ScanInputs in{whh, cell_params, std::nullopt, std::nullopt, std::move(plan), std::move(cell)};
  ScanShape s = check_spatial_scan({x, w_ih, bias, combine, states}, in);
  STD_TORCH_CHECK(variant.empty() || variant == "resident", "crnn::spatial_scan: unknown variant '", variant,
      "' on cuda; known: resident");
  const OnDevice on(x);
  for (Direction& d : s.plan) d = d.lines_sorted();
  SpatialProblem q{problem(s, in, x, true, false), w_ih ? x.size(2) : 0, combine != "concat", true};
  for (const Direction& d : s.plan) q.same_positions &= d.same_segments(s.plan[0]);
  if (w_ih) q.aligned &= aligned(*w_ih, q.C * bytes_of(q.dtype));
  const char* reason = misfit(q, on.info);
  STD_TORCH_CHECK(!reason, "crnn::spatial_scan on cuda: it ", reason);
  const SpatialKernel& kernel = *find(q, on.info);
  Tensor y = torch::stable::new_empty(x, {q.summed ? s.N : 0, s.P, s.D});
  Tensor state = torch::stable::new_empty(x, {s.states, s.P, s.N, s.K, s.D});
  Tensor saved = new_saved(x, s, in.cell, q.dtype);
  SpatialCall call{};
  fill(call, s, in, q.dtype, nullptr);
  call.z = {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1), w_ih ? 0 : x.stride(2)};
  call.w_ih = data_of(w_ih), call.bias = data_of(bias), call.C = q.C;
  call.w_ih_k = w_ih && w_ih->size(0) > 1 ? w_ih->stride(0) : 0;
  call.bias_k = bias && bias->size(0) > 1 ? bias->stride(0) : 0;
  call.state = state.mutable_data_ptr(), call.saved = saved.mutable_data_ptr();
  call.y = q.summed ? y.mutable_data_ptr() : nullptr;
  call.scale = combine == "mean" ? 1.0f / float(s.K) : 1.0f;
  if (s.N > 0 && s.D > 0)
    each_launch(call, s.plan,
        [&](const SpatialCall& c, int n) { kernel.forward(c, tiles_of(q, kernel.N), n, on.stream); });
  if (states) return {y, state, saved};
  return {y, torch::stable::new_empty(x, {0}), torch::stable::new_empty(x, {0})};
}

}  // namespace crnn
