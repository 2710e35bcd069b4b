// The resident kernels of float32, products nearly exact: a file of their own, to be compiled beside the
// others.
#include "resident_table.cuh"

namespace crnn {

ResidentKernels resident_float() {
  return float_kernels<Products::kSplit>();
}

}  // namespace crnn
