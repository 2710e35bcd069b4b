// The resident kernels of float16: a file of their own, to be compiled beside the others.
#include "resident_table.cuh"

namespace crnn {

ResidentKernels resident_half() {
  return two_byte_kernels<Half>();
}

}  // namespace crnn
