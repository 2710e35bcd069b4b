// The kernels of spatial_scan of bfloat16: a file of their own, to be compiled beside the others.
#include "spatial_table.cuh"

namespace crnn {

SpatialKernels summing_bf16() {
  return summing_kernels<BFloat16>();
}
SpatialKernels projecting_bf16() {
  return projecting_kernels<BFloat16>();
}

}  // namespace crnn
