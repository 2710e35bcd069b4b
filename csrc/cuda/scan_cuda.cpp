// The scan on CUDA: checks the arguments, makes the results, picks a kernel and starts it. Compiled by the
// C++ compiler; only the .cu files need nvcc.
#include "scan_cuda.h"

#include "on_device.h"
#include "scan_boundary.h"
#include "scan_variants.h"
#include "tile_rule.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

// The variant called `name`; for "" and "tf32" the first that fits.
const ScanVariant& choose(const std::string& name, const ScanProblem& q, const DeviceInfo& device) {
  std::string known;
  for (const ScanVariant* v : kScanVariants) {
    known += std::string(known.empty() ? "" : ", ") + v->name;
    const bool forced = !name.empty() && name != "tf32";
    if (forced && name != v->name) continue;
    const char* misfit = v->misfit(q, device);
    if (!misfit) return *v;
    STD_TORCH_CHECK(!forced, "crnn::scan on cuda: variant '", name, "' ", misfit);
  }
  STD_TORCH_CHECK(false, "crnn::scan: unknown variant '", name, "' on cuda; known: tf32, ", known);
}

bool exact(const std::string& variant) {
  return variant != "tf32" && variant != "resident_tf32";
}

Tensor bytes(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, {count}, ScalarType::Byte);
}

}  // namespace

std::tuple<Tensor, Tensor> scan_cuda(const Tensor& z, const Tensor& whh, const OptionalTensor& cell_params,
    const OptionalTensor& initial, const OptionalTensor& cont, std::vector<int64_t> plan, Text cell,
    Text variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(z, in);
  check_rows(z, q.gates * q.D, "z");
  const OnDevice on(z);
  const ScanProblem p = problem(q, in, z, exact(variant), false);
  const ScanVariant& kernel = choose(variant, p, on.info);
  Tensor state = torch::stable::new_empty(z, {q.states, q.P, q.N, q.K, q.D});
  Tensor saved = new_saved(z, q, in.cell, p.dtype);
  Tensor scratch = bytes(z, kernel.scratch_bytes(p, q.K * tiles_of(p, kernel.tile(p, on.info))));
  ForwardCall call{};
  fill(call, q, in, p.dtype, scratch.mutable_data_ptr());
  call.z = {const_cast<void*>(z.const_data_ptr()), z.stride(0), z.stride(1), z.stride(2)};
  call.state = state.mutable_data_ptr(), call.saved = saved.mutable_data_ptr();
  if (q.N > 0 && q.D > 0)
    each_launch(
        call, q.plan, [&](const ForwardCall& c, int n) { kernel.forward(p, on.info, c, n, on.stream); });
  return {state, saved};
}

std::tuple<Tensor, Tensor, Tensor> scan_backward_cuda(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, Text cell, Text variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan_backward(dstate, state, saved, in,
      [&](const ScanShape& s) { return kept_values(s, in.cell, dtype_of(state, "crnn::scan")); });
  check_rows(dstate, q.D, "dstate");
  const OnDevice on(state);
  const ScanProblem p = problem(q, in, dstate, exact(variant), true);
  const ScanVariant& kernel = choose(variant, p, on.info);
  int64_t starts = 0;  // segments of the direction that has most
  for (const Direction& d : q.plan) starts = std::max(starts, initial ? d.gradient_segments().count : 0);
  const int64_t tiles = tiles_of(p, kernel.tile(p, on.info));
  const ScalarType computing = p.dtype == Dtype::kDouble ? ScalarType::Double : ScalarType::Float;
  Tensor dz = torch::stable::new_empty(state, {q.P, q.N, q.K, q.gates * q.D});
  Tensor dstart = torch::stable::new_zeros(state, {starts, q.states, q.N, q.K, q.D});
  Tensor dshares = torch::stable::new_zeros(state, {q.params ? q.K : 0, tiles, q.params, q.D}, computing);
  Tensor scratch = bytes(state, kernel.scratch_bytes(p, q.K * tiles));
  BackwardCall call{};
  fill(call, q, in, p.dtype, scratch.mutable_data_ptr());
  call.dstate = {
      const_cast<void*>(dstate.const_data_ptr()), dstate.stride(1), dstate.stride(2), dstate.stride(3)};
  call.dstate_plane = dstate.stride(0), call.tiles = tiles;
  call.state = state.const_data_ptr(), call.saved = saved.const_data_ptr();
  call.dz = dz.mutable_data_ptr(), call.dshares = dshares.mutable_data_ptr();
  call.dstart = initial ? dstart.mutable_data_ptr() : nullptr;
  if (q.N > 0 && q.D > 0)
    each_launch(
        call, q.plan, [&](const BackwardCall& c, int n) { kernel.backward(p, on.info, c, n, on.stream); });
  const std::vector<int64_t> segments{0}, tile{1};
  Tensor dcell_params = torch::stable::new_empty(state, {q.params ? q.K : 0, q.params, q.D});
  torch::stable::copy_(dcell_params, torch::stable::sum(dshares, tile));
  return {dz, dcell_params, torch::stable::sum(dstart, segments)};
}

}  // namespace crnn
