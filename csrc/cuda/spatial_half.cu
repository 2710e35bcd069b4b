// The kernels of spatial_scan of float16: a file of their own, to be compiled beside the others.
#include "spatial_table.cuh"

namespace crnn {

SpatialKernels summing_half() {
  return summing_kernels<Half>();
}
SpatialKernels projecting_half() {
  return projecting_kernels<Half>();
}

}  // namespace crnn
