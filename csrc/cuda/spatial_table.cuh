// Makes the rows of spatial_call.h's tables. A row is one forward kernel; backward is the scan's.
#pragma once

#include "direction_sum.cuh"
#include "launch.h"
#include "resident_forward.cuh"

namespace crnn {

// A scan of z whose directions are summed. Empty where there are no clusters: misfit() keeps it from there.
template <typename R>
CRNN_KERNEL(R::kThreads, 1)
resident_spatial(CRNN_ARGUMENT SpatialCall call) {
  if constexpr (device::kClusters) {
    ResidentForward<R>(call).run();
    DirectionSum<R>(call).run();
  }
}

template <typename R>
SpatialKernel summing_kernel() {
  constexpr int64_t kBytes = ResidentForward<R>::kSharedBytes;
  return {Cells::index(R::Cell::kName), R::kD, R::kN, R::kThreads, kBytes,
      [](const SpatialCall& c, int64_t tiles, int directions, void* stream) {
        launch("spatial_scan", resident_spatial<R>, {tiles, directions, R::kThreads, kBytes, directions},
            stream, c);
      }};
}

// As the rows of two_byte_kernels in resident_table.cuh.
template <typename S>
SpatialKernels summing_kernels() {
  static const SpatialKernel rows[] = {
      summing_kernel<Resident<ReluCell, S, 64, 32>>(),
      summing_kernel<Resident<ReluCell, S, 128, 8>>(),
      summing_kernel<Resident<ReluCell, S, 128, 32>>(),
      summing_kernel<Resident<ReluCell, S, 256, 8>>(),
      summing_kernel<Resident<ReluCell, S, 256, 16>>(),
      summing_kernel<Resident<TanhCell, S, 128, 16>>(),
      summing_kernel<Resident<TanhCell, S, 256, 8>>(),
      summing_kernel<Resident<LnReluCell, S, 128, 16>>(),
      summing_kernel<Resident<LnReluCell, S, 256, 8>>(),
      summing_kernel<Resident<GruCell, S, 128, 8>>(),
      summing_kernel<Resident<GruTanhCell, S, 128, 8>>(),
      summing_kernel<Resident<LstmCell, S, 128, 8>>(),
      summing_kernel<Resident<HalfGruCell, S, 128, 8>>(),
  };
  return rows;
}

}  // namespace crnn
