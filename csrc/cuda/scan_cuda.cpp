// The scan on CUDA: checks the arguments, makes the results, picks a kernel and starts it. Compiled by the
// C++ compiler; only the .cu files need nvcc.
#include "scan_cuda.h"

#include <algorithm>
#include <optional>

#include "dtype_of.h"
#include "on_device.h"
#include "scan_variants.h"

namespace crnn {
namespace {

using OptionalTensor = std::optional<Tensor>;
using torch::headeronly::ScalarType;

const void* data_of(const OptionalTensor& t) {
  return t ? t->const_data_ptr() : nullptr;
}

bool aligned(const Tensor& t, int64_t row_bytes) {
  bool fits = reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0 && row_bytes % 16 == 0;
  for (int64_t i = 0; i + 1 < t.dim(); ++i)
    fits &= t.size(i) <= 1 || t.stride(i) * t.element_size() % 16 == 0;
  return fits;
}

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

ScanProblem problem(
    const ScanShape& q, const ScanInputs& in, const Tensor& like, const std::string& variant, bool backward) {
  ScanProblem p{Cells::index(in.cell), dtype_of(like, "crnn::scan"), q.P, q.N, q.K, q.D, 0, 0, backward, true,
      true, in.cont.has_value(), true};
  p.exact = variant != "tf32" && variant != "resident_tf32";
  for (const Direction& d : q.plan) {
    const Segments segments = backward ? d.gradient_segments() : d.value_segments();
    p.chains = std::max(p.chains, q.N * segments.count), p.steps = std::max(p.steps, segments.steps);
  }
  p.small = q.P < INT32_MAX && p.chains < INT32_MAX - 64;
  const int64_t row = q.D * bytes_of(p.dtype);
  p.aligned = aligned(like, row) && aligned(in.whh, row);
  for (const OptionalTensor* t : {&in.initial, &in.cell_params}) p.aligned &= !*t || aligned(**t, row);
  return p;
}

void fill(ScanCall& c, const ScanShape& q, const ScanInputs& in, Dtype dtype, void* scratch) {
  c.P = q.P, c.N = q.N, c.K = q.K, c.D = q.D, c.dtype = dtype, c.scratch = scratch;
  c.whh = in.whh.const_data_ptr(), c.cell_params = data_of(in.cell_params);
  c.initial = data_of(in.initial), c.cont = data_of(in.cont);
}

// Calls start(call, count) with the directions of `plan`, as many at a time as a launch takes.
template <typename Call, typename Start>
void each_launch(Call& call, const std::vector<Direction>& plan, Start&& start) {
  for (size_t first = 0; first < plan.size(); first += kLaunchDirections) {
    const size_t count = std::min(plan.size() - first, size_t(kLaunchDirections));
    std::copy_n(plan.begin() + first, count, call.plan);
    call.first_k = int64_t(first);
    start(call, int(count));
  }
}

int64_t tiles_of(const ScanProblem& p, int64_t tile) {
  return (p.chains + tile - 1) / tile;
}

// [P, N, K, saved, D]; of a masked cell [P, N, K, 1, .], the bits in elements of z's dtype.
Tensor new_saved(const Tensor& z, const ScanShape& q, const std::string& cell, Dtype dtype) {
  bool masked = false;
  Cells::visit(cell, [&](auto c) { masked = c.kMasked; });
  const std::vector<int64_t> mask{q.P, q.N, q.K, 1, mask_bytes(q.D) / bytes_of(dtype)};
  if (!masked) return torch::stable::new_empty(z, {q.P, q.N, q.K, q.saved, q.D});
  return q.D % 128 ? torch::stable::new_zeros(z, mask)
                   : torch::stable::new_empty(z, mask);  // padded: no bits
}

Tensor bytes(const Tensor& like, int64_t count) {
  return torch::stable::new_empty(like, {count}, ScalarType::Byte);
}

}  // namespace

std::tuple<Tensor, Tensor> scan_cuda(const Tensor& z, const Tensor& whh, const OptionalTensor& cell_params,
    const OptionalTensor& initial, const OptionalTensor& cont, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(z, in);
  check_rows(z, q.gates * q.D, "z");
  const OnDevice on(z);
  const ScanProblem p = problem(q, in, z, variant, false);
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
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(torch::stable::select(state, 0, 0), in);
  check_rows(dstate, q.D, "dstate");
  const OnDevice on(state);
  const ScanProblem p = problem(q, in, dstate, variant, true);
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
