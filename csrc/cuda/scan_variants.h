// The table of scan kernels. The first that fits runs; `variant=` forces one. To add a kernel: its .cu, whose
// last lines fill a ScanVariant, and its row here.
#pragma once

#include "scan_call.h"

namespace crnn {

struct ScanVariant {
  const char* name;
  // Why it cannot run `problem` on `device`, or null where it can.
  const char* (*misfit)(const ScanProblem& problem, const DeviceInfo& device);
  // Chains that a block takes.
  int64_t (*tile)(const ScanProblem& problem, const DeviceInfo& device);
  // Bytes of call.scratch for `blocks` blocks.
  int64_t (*scratch_bytes)(const ScanProblem& problem, int64_t blocks);
  void (*forward)(const ScanProblem&, const DeviceInfo&, const ForwardCall&, int directions, void* stream);
  void (*backward)(const ScanProblem&, const DeviceInfo&, const BackwardCall&, int directions, void* stream);
};

extern const ScanVariant scan_resident_tf32, scan_resident, scan_gemm_relu, scan_gemm, scan_plain;

inline constexpr const ScanVariant* kScanVariants[] = {
    &scan_resident_tf32, &scan_resident, &scan_gemm_relu, &scan_gemm, &scan_plain};

}  // namespace crnn
