// Steps of scan_gemm.cuh: the products of a pass and the kernels between them.
#include "by_cell.h"
#include "by_dtype.h"
#include "launch.h"
#include "product.h"
#include "scan_gemm_backward.cuh"
#include "scan_gemm_forward.cuh"
#include "scan_variants.h"

namespace crnn {
namespace {

constexpr int64_t kLeastChannels = 64;  // below, a step is all launches, and scan_plain one kernel

// What the host needs of a cell.
struct CellNumbers {
  int64_t gates, first, states, params;
  unsigned carried;
};

CellNumbers numbers_of(int cell) {
  CellNumbers found{};
  by_cell(Cells{}, cell, [&](auto c) {
    using Cell = decltype(c);
    found = {Cell::kGates, Cell::kFirstGates, Cell::kStates, Cell::kParams, GemmCell<Cell>::kCarried};
  });
  return found;
}

struct Buffers {
  void *workspace, *sums, *operand, *carry;
  int64_t bytes;
};

Buffers buffers_of(const ScanProblem& q, void* base) {
  const CellNumbers cell = numbers_of(q.cell);
  const int64_t values = std::min<int64_t>(q.K, kLaunchDirections) * q.chains * q.D;
  Scratch scratch(base);
  Buffers b{};
  b.workspace = scratch.take(kWorkspaceBytes);
  b.sums = scratch.take(values * (q.backward ? 1 : cell.gates) * compute_bytes(q.dtype));
  b.operand = scratch.take(values * (q.backward ? cell.gates : 1) * bytes_of(q.dtype));
  b.carry = scratch.take(values * __builtin_popcount(cell.carried) * compute_bytes(q.dtype));
  b.bytes = scratch.taken();
  return b;
}

const char* misfit(const ScanProblem& q, const DeviceInfo&) {
  if (q.D < kLeastChannels) return "is for 64 channels or more";
  if (!q.small) return "needs fewer than 2^31 positions and chains";
  if (!can_multiply()) return "needs cublasLt, which this process has not (libcublasLt.so.13 or .12)";
  return nullptr;
}

int64_t tile(const ScanProblem&, const DeviceInfo&) {
  return 1;
}

int64_t scratch_bytes(const ScanProblem& q, int64_t) {
  return buffers_of(q, nullptr).bytes;
}

// A pass over one batch of directions.
template <typename Call>
struct Pass {
  static constexpr bool kBackward = std::is_same_v<Call, BackwardCall>;
  const ScanProblem& q;
  const DeviceInfo& device;
  const GemmBatch<Call>& batch;
  void* const stream;
  const CellNumbers cell = numbers_of(q.cell);
  const Buffers buffers = buffers_of(q, batch.call.scratch);
  GemmStep<Call> step{};
  ProductPlan *first = nullptr, *rest = nullptr;  // the products of phase 0 and of phase 1

  Pass(const ScanProblem& problem, const DeviceInfo& on, const GemmBatch<Call>& b, void* stream)
      : q(problem), device(on), batch(b), stream(stream) {
    step.call = batch.call, step.chains = batch.chains, step.rows = batch.directions * batch.chains;
    step.states = int(cell.states), step.carried = cell.carried;
    step.sums = buffers.sums, step.operand = buffers.operand, step.carry = buffers.carry;
    first = plan(0, cell.first);
    if (cell.first < cell.gates) rest = plan(cell.first, cell.gates);
  }

  const void* weights(int64_t gate) const {
    return static_cast<const char*>(batch.call.whh) +
           (batch.call.first_k * cell.gates + gate) * q.D * q.D * bytes_of(q.dtype);
  }

  // The product with the rows of gates [from, to) of W_hh.
  ProductPlan* plan(int64_t from, int64_t to) const {
    const int64_t D = q.D, rows = batch.chains, all = cell.gates * D, some = (to - from) * D;
    Product p{batch.directions, rows};
    p.dtype = q.dtype, p.result = q.dtype == Dtype::kDouble ? Dtype::kDouble : Dtype::kFloat;
    p.inner = kBackward ? some : D, p.outer = kBackward ? D : some;
    p.w = {D, all * D};
    const Product::Strides gates{all, rows * all}, one{D, rows * D};
    p.in = kBackward ? gates : one, p.out = kBackward ? one : gates;
    p.reversed = kBackward, p.tf32 = !q.exact;
    p.alignment = std::min({alignment_of(weights(from)), alignment_of(buffers.operand),
        alignment_of(uintptr_t(D * bytes_of(q.dtype)))});
    ProductPlan* found = plan_product(p, device.index);
    if (!found)
      throw std::runtime_error("crnn: cublasLt has no algorithm for products with W_hh of " +
                               std::to_string(some) + " x " + std::to_string(D) +
                               "; the kernel called plain needs none");
    return found;
  }

  void multiply(ProductPlan* plan, int64_t gate) const {
    Operands o{weights(gate), buffers.operand, nullptr, buffers.sums};
    if (kBackward)
      o.in = static_cast<const char*>(o.in) + gate * q.D * bytes_of(q.dtype);
    else
      o.out = static_cast<char*>(o.out) + gate * q.D * compute_bytes(q.dtype);
    crnn::multiply(*plan, o, buffers.workspace, stream);
  }

  void place(int64_t i) {
    for (int k = 0; k < batch.directions; ++k) step.at[k] = place_of(batch.call.plan[k], kBackward, i);
  }

  template <int kWide>
  void launch(const char* name, void (*kernel)(GemmStep<Call>)) const {
    const int64_t packs = (q.D + kWide - 1) / kWide;
    Grid grid{batch.chains, batch.directions, int(std::min<int64_t>((packs + 31) / 32 * 32, kGemmThreads))};
    grid.shared_bytes = kGemmSlots * kGemmThreads / 32 * compute_bytes(q.dtype);
    crnn::launch(name, kernel, grid, stream, step);
  }
};

template <typename Cell, typename S, int kWide>
void forward_pass(Pass<ForwardCall>& pass) {
  pass.place(0);
  pass.step.product = pass.batch.call.initial;
  if (pass.step.product) pass.launch<kWide>("scan_gemm start", gemm_start<S, kWide>);
  for (int64_t i = 0; i < pass.batch.steps; ++i) {
    pass.place(i);
    if (pass.step.product) pass.multiply(pass.first, 0);
    if constexpr (Cell::kFirstGates < Cell::kGates)
      if (pass.step.product) {
        pass.launch<kWide>("scan_gemm operand", gemm_forward_first<Cell, S, kWide>);
        pass.multiply(pass.rest, Cell::kFirstGates);
      }
    pass.launch<kWide>("scan_gemm", gemm_forward<Cell, S, kWide>);
    pass.step.product = true;
  }
}

template <typename Cell, typename S, int kWide>
void backward_pass(Pass<BackwardCall>& pass) {
  for (int64_t i = 0; i < pass.batch.steps; ++i) {
    pass.place(i);
    pass.launch<kWide>("scan_gemm backward", gemm_backward<Cell, S, kWide>);
    if constexpr (Cell::kFirstGates < Cell::kGates) {
      pass.multiply(pass.rest, Cell::kFirstGates);
      pass.launch<kWide>("scan_gemm backward operand", gemm_backward_first<Cell, S, kWide>);
    }
    if (i + 1 < pass.batch.steps || pass.batch.call.dstart) pass.multiply(pass.first, 0);
    pass.step.product = true;
  }
  if (!pass.batch.call.dstart) return;
  for (int k = 0; k < pass.batch.directions; ++k) {
    const Direction& d = pass.batch.call.plan[k];
    pass.step.at[k] = place_of(d, true, d.gradient_segments().steps - 1);
  }
  pass.launch<kWide>("scan_gemm end", gemm_end<S, kWide>);
}

// Calls run(Cell{}, S{}, width) with as many channels at a time as 16 bytes of the computing type hold.
template <typename Run>
void dispatch(const ScanProblem& q, Run&& run) {
  by_cell(Cells{}, q.cell, [&](auto cell) {
    by_dtype(q.dtype, [&](auto s) {
      using S = decltype(s);
      constexpr int kWide = sizeof(S) == 8 ? 2 : 4;
      if (q.aligned)
        run(cell, s, std::integral_constant<int, kWide>{});
      else
        run(cell, s, std::integral_constant<int, 1>{});
    });
  });
}

void forward(const ScanProblem& q, const DeviceInfo& on, const ForwardCall& c, int directions, void* stream) {
  each_batch(c, directions, false, [&](const GemmBatch<ForwardCall>& batch) {
    Pass<ForwardCall> pass(q, on, batch, stream);
    dispatch(q, [&](auto cell, auto s, auto wide) {
      forward_pass<decltype(cell), decltype(s), decltype(wide)::value>(pass);
    });
  });
}

void backward(
    const ScanProblem& q, const DeviceInfo& on, const BackwardCall& c, int directions, void* stream) {
  each_batch(c, directions, true, [&](const GemmBatch<BackwardCall>& batch) {
    Pass<BackwardCall> pass(q, on, batch, stream);
    dispatch(q, [&](auto cell, auto s, auto wide) {
      backward_pass<decltype(cell), decltype(s), decltype(wide)::value>(pass);
    });
  });
}

}  // namespace

const ScanVariant scan_gemm = {"gemm", misfit, tile, scratch_bytes, forward, backward};

}  // namespace crnn
