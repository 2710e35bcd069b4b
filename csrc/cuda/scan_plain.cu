// Launches of scan_plain.cuh.
#include "launch.h"
#include "scan_plain.cuh"
#include "scan_variants.h"

namespace crnn {
namespace {

// Calls run(Cell{}, S{}) for the problem's cell and dtype.
template <typename... Cell, typename Run>
void dispatch(CellList<Cell...>, const ScanProblem& q, Run&& run) {
  int at = 0;
  const auto with = [&](auto cell) {
    if (at++ != q.cell) return;
    switch (q.dtype) {
      case Dtype::kDouble:
        return run(cell, double{});
      case Dtype::kFloat:
        return run(cell, float{});
      case Dtype::kBFloat16:
        return run(cell, BFloat16{});
      case Dtype::kHalf:
        return run(cell, Half{});
    }
  };
  (with(Cell{}), ...);
}

const char* misfit(const ScanProblem&, const DeviceInfo&) {
  return nullptr;
}

int64_t tile(const ScanProblem&, const DeviceInfo&) {
  return kPlainChains;
}

int64_t scratch_bytes(const ScanProblem& q, int64_t blocks) {
  int64_t values = 0;
  dispatch(Cells{}, q, [&](auto cell, auto) { values = plain_scratch<decltype(cell)>(q.D); });
  return blocks * values * compute_bytes(q.dtype);
}

Grid grid(const ScanProblem& q, int directions) {
  return {(q.chains + kPlainChains - 1) / kPlainChains, directions, kPlainThreads};
}

void forward(const ScanProblem& q, const DeviceInfo&, const ForwardCall& c, int directions, void* stream) {
  dispatch(Cells{}, q, [&](auto cell, auto s) {
    launch("scan_plain", plain_forward<decltype(cell), decltype(s)>, grid(q, directions), stream, c);
  });
}

void backward(const ScanProblem& q, const DeviceInfo&, const BackwardCall& c, int directions, void* stream) {
  dispatch(Cells{}, q, [&](auto cell, auto s) {
    launch(
        "scan_plain backward", plain_backward<decltype(cell), decltype(s)>, grid(q, directions), stream, c);
  });
}

}  // namespace

const ScanVariant scan_plain = {"plain", misfit, tile, scratch_bytes, forward, backward};

}  // namespace crnn
