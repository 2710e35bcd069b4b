// Steps of scan_gemm_relu.cuh: one product each, between a kernel that brings rows into the order of time and
// one that takes them back.
#include "by_dtype.h"
#include "gemm_steps.h"
#include "launch.h"
#include "product.h"
#include "scan_gemm_relu.cuh"
#include "scan_variants.h"

namespace crnn {
namespace {

struct Buffers {
  void *workspace, *rows, *masks, *last;
  int64_t bytes;
};

Buffers buffers_of(const ScanProblem& q, void* base) {
  const int64_t directions = std::min<int64_t>(q.K, kLaunchDirections), row = q.D * bytes_of(q.dtype);
  const int64_t rows = directions * most_rows(q), once = directions * q.chains;
  Scratch scratch(base);
  Buffers b{};
  b.workspace = scratch.take(kWorkspaceBytes);
  b.rows = scratch.take((q.backward ? rows : rows + once) * row);
  b.masks = scratch.take(q.backward ? rows * mask_bytes(q.D) : 0);
  b.last = scratch.take(q.backward ? once * row : 0);
  b.bytes = scratch.taken();
  return b;
}

// A step's product for `directions` directions, all operands dense.
Product product_of(const ScanProblem& q, int directions, int64_t chains) {
  const int64_t D = q.D;
  const Product::Strides one{D, chains * D};
  Product p{directions, chains, D, D, q.dtype, q.dtype, {D, D * D}, one, one, one};
  p.reversed = q.backward, p.adds = true, p.tf32 = !q.exact;
  p.epilogue = q.backward ? Epilogue::kMask : Epilogue::kRelu;
  if (q.backward) p.mask = {8 * mask_bytes(D), 8 * mask_bytes(D) * chains};
  p.alignment = alignment_of(uintptr_t(D * bytes_of(q.dtype)));
  return p;
}

const char* misfit(const ScanProblem& q, const DeviceInfo& device) {
  if (q.cell != Cells::index("relu")) return "is for cell relu";
  if (q.cont) return "takes no cont";
  if (most_rows(q) >= INT32_MAX) return "needs fewer than 2^31 positions times samples";
  if (const char* reason = scan_gemm.misfit(q, device)) return reason;
  const int directions = int(std::min<int64_t>(q.K, kLaunchDirections));
  if (q.chains > 0 && !plan_product(product_of(q, directions, q.chains), device.index))
    return "needs a cublasLt whose products end in relu (backward: in a mask) for this dtype and shape";
  return nullptr;
}

int64_t scratch_bytes(const ScanProblem& q, int64_t blocks) {
  return std::max(buffers_of(q, nullptr).bytes, scan_gemm.scratch_bytes(q, blocks));
}

// A pass over one batch of directions.
template <typename Call>
struct Pass {
  static constexpr bool kBackward = std::is_same_v<Call, BackwardCall>;
  const ScanProblem& q;
  const DeviceInfo& device;
  const GemmBatch<Call>& batch;
  const Call& call;
  void* const stream;
  const Buffers buffers = buffers_of(q, batch.call.scratch);
  const int64_t element = bytes_of(q.dtype), row = q.D * element;
  const void* const whh = at(call.whh, call.first_k* q.D* q.D);
  const bool in_place;

  Pass(const ScanProblem& problem, const DeviceInfo& on, const GemmBatch<Call>& b, void* stream)
      : q(problem), device(on), batch(b), call(b.call), stream(stream), in_place(lies_in_order()) {}

  const Rows& source() const {
    if constexpr (kBackward)
      return call.dstate;
    else
      return call.z;
  }
  void* result() const {
    if constexpr (kBackward)
      return call.dz;
    else
      return call.state;
  }
  static const void* offset(const void* data, int64_t bytes) {
    return static_cast<const char*>(data) + bytes;
  }
  const void* at(const void* data, int64_t elements) const {
    return offset(data, elements * bytes_of(q.dtype));
  }

  // Whether each time's rows are equally far apart in the tensors: a direction by itself, of one segment.
  bool lies_in_order() const {
    return batch.directions == 1 && segments_of(call.plan[0], kBackward).count == 1 &&
           (call.N == 1 || source().n >= q.D);
  }

  // The rows of local time i: in the tensors' places or in `rows`.
  const void* added(int64_t i) const {
    if (!in_place) return out(i);
    const Rows& from = source();
    return at(from.data, place_of(call.plan[0], kBackward, i).now * from.p + call.first_k * from.k);
  }
  void* out(int64_t i) const {
    const void* found;
    if (in_place)
      found = at(result(), call.row(place_of(call.plan[0], kBackward, i).now, 0, call.first_k) * q.D);
    else
      found = offset(buffers.rows, (kBackward ? i : i + 1) * batch.directions * batch.chains * row);
    return const_cast<void*>(found);
  }
  const void* start() const {  // forward: `initial`
    return in_place ? at(call.initial, call.initial_at(0, 0, call.first_k)) : buffers.rows;
  }
  const void* mask(int64_t i) const {
    if constexpr (!kBackward)
      return nullptr;
    else if (in_place)
      return offset(
          call.saved, call.row(place_of(call.plan[0], true, i).now, 0, call.first_k) * mask_bytes(q.D));
    else
      return offset(buffers.masks, i * batch.directions * batch.chains * mask_bytes(q.D));
  }

  Product step_product() const {
    Product p = product_of(q, batch.directions, batch.chains);
    if (in_place) {
      const int64_t apart = call.K * q.D;
      p.in = p.out = {apart, 0}, p.added = {std::max(source().n, q.D), 0};
      p.mask = {p.mask.row * call.K, 0};
    }
    for (const void* base : {whh, added(0), static_cast<const void*>(out(0))})
      p.alignment = std::min(p.alignment, alignment_of(base));
    if (in_place)
      p.alignment = std::min({p.alignment, alignment_of(uintptr_t(source().p * element)),
          alignment_of(uintptr_t(source().n * element))});
    if (!kBackward && call.initial) p.alignment = std::min(p.alignment, alignment_of(start()));
    return p;
  }

  // Of the first step's dz, to `initial`.
  Product last_product() const {
    Product p = step_product();
    p.adds = false, p.added = {}, p.epilogue = Epilogue::kNone, p.mask = {};
    p.out = {q.D, batch.chains * q.D};
    p.alignment = std::min(p.alignment, alignment_of(buffers.last));
    return p;
  }

  template <int kWide>
  void launch(const char* name, void (*kernel)(ReluRows<Call>), int64_t times, void* rows) const {
    const int64_t packs = (q.D + kWide - 1) / kWide;
    const Grid grid{
        batch.chains * times, batch.directions, int(std::min<int64_t>((packs + 31) / 32 * 32, kGemmThreads))};
    crnn::launch(name, kernel, grid, stream,
        ReluRows<Call>{call, batch.chains, batch.directions * batch.chains, rows, buffers.masks});
  }
  void* rows() const { return in_place ? nullptr : buffers.rows; }
};

template <typename S, int kWide>
void forward_pass(const Pass<ForwardCall>& pass, ProductPlan& plan) {
  const int64_t steps = pass.batch.steps;
  const bool starts = pass.call.initial;
  const int64_t entering = !pass.in_place ? steps : starts ? 0 : 1;
  pass.launch<kWide>("scan_gemm_relu enter", relu_enter<S, kWide>, entering, pass.rows());
  for (int64_t i = starts ? 0 : 1; i < steps; ++i)
    multiply(plan, {pass.whh, i ? pass.out(i - 1) : pass.start(), pass.added(i), pass.out(i)},
        pass.buffers.workspace, pass.stream);
  pass.launch<kWide>("scan_gemm_relu leave", relu_leave<S, kWide>, steps, pass.rows());
}

template <typename S, int kWide>
void backward_pass(const Pass<BackwardCall>& pass, ProductPlan& plan, ProductPlan* last) {
  const int64_t steps = pass.batch.steps;
  pass.launch<kWide>(
      "scan_gemm_relu enter", relu_enter_backward<S, kWide>, pass.in_place ? 1 : steps, pass.rows());
  for (int64_t i = 1; i < steps; ++i)
    multiply(plan, {pass.whh, pass.out(i - 1), pass.added(i), pass.out(i), pass.mask(i)},
        pass.buffers.workspace, pass.stream);
  if (!pass.in_place)
    pass.launch<kWide>("scan_gemm_relu leave", relu_leave_backward<S, kWide>, steps, pass.rows());
  if (!last) return;
  multiply(*last, {pass.whh, pass.out(steps - 1), nullptr, pass.buffers.last}, pass.buffers.workspace,
      pass.stream);
  pass.launch<kWide>("scan_gemm_relu end", relu_end<S, kWide>, 1, pass.buffers.last);
}

// Calls run(S{}, width); the epilogues know no double.
template <typename Run>
void dispatch(const ScanProblem& q, Run&& run) {
  by_dtype(q.dtype, [&](auto s) {
    if constexpr (sizeof(s) < 8) {
      if (q.aligned)
        run(s, std::integral_constant<int, 4>{});
      else
        run(s, std::integral_constant<int, 1>{});
    }
  });
}

// misfit() asked for the launch as one batch; where cublasLt has nothing for another, scan_gemm takes that.
void forward(const ScanProblem& q, const DeviceInfo& on, const ForwardCall& c, int directions, void* stream) {
  each_batch(c, directions, false, [&](const GemmBatch<ForwardCall>& batch) {
    const Pass<ForwardCall> pass(q, on, batch, stream);
    ProductPlan* plan = plan_product(pass.step_product(), on.index);
    if (!plan) return scan_gemm.forward(q, on, batch.call, batch.directions, stream);
    dispatch(q, [&](auto s, auto wide) { forward_pass<decltype(s), decltype(wide)::value>(pass, *plan); });
  });
}

void backward(
    const ScanProblem& q, const DeviceInfo& on, const BackwardCall& c, int directions, void* stream) {
  each_batch(c, directions, true, [&](const GemmBatch<BackwardCall>& batch) {
    const Pass<BackwardCall> pass(q, on, batch, stream);
    ProductPlan *plan = plan_product(pass.step_product(), on.index), *last = nullptr;
    bool together = true;  // dstart is made of one time's rows: all directions must begin there
    for (int k = 0; k < batch.directions; ++k)
      together &= segments_of(batch.call.plan[k], true).steps == batch.steps;
    if (batch.call.dstart && together) last = plan_product(pass.last_product(), on.index);
    if (!plan || (batch.call.dstart && !last))
      return scan_gemm.backward(q, on, batch.call, batch.directions, stream);
    dispatch(
        q, [&](auto s, auto wide) { backward_pass<decltype(s), decltype(wide)::value>(pass, *plan, last); });
  });
}

int64_t tile(const ScanProblem&, const DeviceInfo&) {
  return 1;
}

}  // namespace

const ScanVariant scan_gemm_relu = {"gemm_relu", misfit, tile, scratch_bytes, forward, backward};

}  // namespace crnn
