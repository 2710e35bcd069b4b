// From a dtype that is a value to one that is a type. For .cu files.
#pragma once

#include "device.cuh"
#include "scan_call.h"  // Dtype

namespace crnn {

// Calls run(S{}) for the type in memory.
template <typename Run>
void by_dtype(Dtype dtype, Run&& run) {
  switch (dtype) {
    case Dtype::kDouble:
      return run(double{});
    case Dtype::kFloat:
      return run(float{});
    case Dtype::kBFloat16:
      return run(BFloat16{});
    case Dtype::kHalf:
      return run(Half{});
  }
}

}  // namespace crnn
