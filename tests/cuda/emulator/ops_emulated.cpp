// The CUDA kernels under emulation, for tensors on the CPU, registered under a dispatch key that no torch of
// the tests uses: torch.ops.crnn.scan.default.redispatch(DispatchKeySet(XPU), ...) runs them.
#include <torch/csrc/stable/library.h>

#include <stdexcept>

#include "lrn_cuda.h"
#include "runtime.h"
#include "scan_cuda.h"
#include "spatial_cuda.h"
#include "update_cuda.h"

namespace crnn {

// An H200's numbers, so that variants choose as they would on one.
const DeviceInfo& device_info(int) {
  static const DeviceInfo h200{90, 132, 227 * 1024, 0};
  return h200;
}

void* current_stream(int) {
  return nullptr;
}

}  // namespace crnn

STABLE_TORCH_LIBRARY_IMPL(crnn, XPU, m) {
  m.impl("scan", TORCH_BOX(&crnn::scan_cuda));
  m.impl("scan_backward", TORCH_BOX(&crnn::scan_backward_cuda));
  m.impl("spatial_scan", TORCH_BOX(&crnn::spatial_scan_cuda));
  m.impl("lrn", TORCH_BOX(&crnn::lrn_cuda));
  m.impl("lrn_backward", TORCH_BOX(&crnn::lrn_backward_cuda));
  m.impl("update", TORCH_BOX(&crnn::update_cuda));
}
