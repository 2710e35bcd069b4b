// The resident kernels of float32, products rounded to tf32: a file of their own, to be compiled beside the
// others.
#include "resident_table.cuh"

namespace crnn {

ResidentKernels resident_tf32() {
  return float_kernels<Products::kRounded>();
}

}  // namespace crnn
