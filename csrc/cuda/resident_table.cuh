// Makes the rows of resident_kernels.h. What is compiled is said here: each row is a forward and a backward
// kernel, about two seconds of nvcc each and per architecture, so a row needs a use. CONTRIBUTING.md says how
// to add one.
#pragma once

#include "launch.h"
#include "resident_backward.cuh"
#include "resident_forward.cuh"
#include "resident_kernels.h"

namespace crnn {

template <typename R>
ResidentKernel kernel() {
  return {Cells::index(R::Cell::kName), R::kD, R::kN, R::kThreads, ResidentForward<R>::kSharedBytes,
      ResidentBackward<R>::kSharedBytes,
      [](const ForwardCall& c, int64_t tiles, int directions, void* stream) {
        launch("scan_resident", resident_forward<R>,
            {tiles, directions, R::kThreads, ResidentForward<R>::kSharedBytes}, stream, c);
      },
      [](const BackwardCall& c, int64_t tiles, int directions, void* stream) {
        launch("scan_resident backward", resident_backward<R>,
            {tiles, directions, R::kThreads, ResidentBackward<R>::kSharedBytes}, stream, c);
      }};
}

// Of a two-byte type. More chains a block where many chains meet few channels: L-RNN's lines.
template <typename S>
ResidentKernels two_byte_kernels() {
  static const ResidentKernel rows[] = {
      kernel<Resident<ReluCell, S, 64, 32>>(),
      kernel<Resident<ReluCell, S, 128, 8>>(),
      kernel<Resident<ReluCell, S, 128, 32>>(),
      kernel<Resident<ReluCell, S, 256, 8>>(),
      kernel<Resident<ReluCell, S, 256, 16>>(),
      kernel<Resident<TanhCell, S, 128, 16>>(),
      kernel<Resident<TanhCell, S, 256, 8>>(),
      kernel<Resident<LnReluCell, S, 128, 16>>(),
      kernel<Resident<LnReluCell, S, 256, 8>>(),
      kernel<Resident<GruCell, S, 128, 8>>(),
      kernel<Resident<GruTanhCell, S, 128, 8>>(),
      kernel<Resident<LstmCell, S, 128, 8>>(),
      kernel<Resident<HalfGruCell, S, 128, 8>>(),
  };
  return rows;
}

// Of float.
template <Products kProducts>
ResidentKernels float_kernels() {
  static const ResidentKernel rows[] = {
      kernel<Resident<ReluCell, float, 128, 8, kProducts>>(),
      kernel<Resident<ReluCell, float, 256, 8, kProducts>>(),
      kernel<Resident<TanhCell, float, 256, 8, kProducts>>(),
      kernel<Resident<LnReluCell, float, 128, 8, kProducts>>(),
      kernel<Resident<LnReluCell, float, 256, 8, kProducts>>(),
      kernel<Resident<GruCell, float, 128, 8, kProducts>>(),
      kernel<Resident<LstmCell, float, 64, 8, kProducts>>(),
      kernel<Resident<HalfGruCell, float, 128, 8, kProducts>>(),
  };
  return rows;
}

}  // namespace crnn
