// Makes the rows of spatial_call.h's tables. A row is one forward kernel; backward is the scan's.
#pragma once

#include "direction_sum.cuh"
#include "launch.h"
#include "resident_projection.cuh"

namespace crnn {

// Empty where it could but sum, and there are no clusters: misfit() keeps it from there.
template <typename R, typename Input>
CRNN_KERNEL(R::kThreads, 1)
resident_spatial(CRNN_ARGUMENT SpatialCall call) {
  if constexpr (device::kClusters || Input::kProjects) ResidentForward<R, Input>(call).run();
  if constexpr (device::kClusters)
    if (call.y) DirectionSum<R>(call).run();
}

template <typename R, typename Input>
SpatialKernel spatial_kernel() {
  constexpr int64_t kBytes = ResidentForward<R, Input>::kSharedBytes;
  return {Cells::index(R::Cell::kName), R::kD, R::kN, R::kThreads, kBytes,
      [](const SpatialCall& c, int64_t tiles, int directions, void* stream) {
        launch("spatial_scan", resident_spatial<R, Input>,
            {tiles, directions, R::kThreads, kBytes, c.y ? directions : 1}, stream, c);
      }};
}

template <typename R>
SpatialKernel summing_kernel() {
  return spatial_kernel<R, GivenInput<R>>();
}
template <typename R>
SpatialKernel projecting_kernel() {
  return spatial_kernel<R, ProjectedInput<R>>();
}

// Of z: sums. As the rows of two_byte_kernels in resident_table.cuh.
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

// Of x: projects, and sums if it is to.
template <typename S>
SpatialKernels projecting_kernels() {
  static const SpatialKernel rows[] = {
      projecting_kernel<Resident<ReluCell, S, 64, 32>>(),
      projecting_kernel<Resident<ReluCell, S, 128, 8>>(),
      projecting_kernel<Resident<ReluCell, S, 128, 16>>(),
      projecting_kernel<Resident<ReluCell, S, 128, 32>>(),
      projecting_kernel<Resident<ReluCell, S, 256, 8>>(),
      projecting_kernel<Resident<ReluCell, S, 256, 16>>(),
      projecting_kernel<Resident<ReluCell, S, 256, 32>>(),
      projecting_kernel<Resident<LnReluCell, S, 64, 32>>(),
      projecting_kernel<Resident<LnReluCell, S, 128, 16>>(),
      projecting_kernel<Resident<LnReluCell, S, 256, 8>>(),
      projecting_kernel<Resident<LnReluCell, S, 256, 16>>(),
  };
  return rows;
}

}  // namespace crnn
