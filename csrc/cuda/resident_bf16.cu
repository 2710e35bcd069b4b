// The resident kernels of bfloat16: a file of their own, to be compiled beside the others.
#include "resident_table.cuh"

namespace crnn {

ResidentKernels resident_bf16() {
  return two_byte_kernels<BFloat16>();
}

}  // namespace crnn
