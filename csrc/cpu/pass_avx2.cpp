// The passes over memory for x86 with AVX2 and FMA.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "pass.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,prefer-vector-width=256")
#endif
#include "lrn_tile.h"
#include "update_piece.h"

namespace crnn {

template <typename S>
const Passes<S>& passes_avx2() {
  static constexpr Passes<S> passes = passes_of<S>("avx2", Rules{});
  return passes;
}
template const Passes<float>& passes_avx2<float>();
template const Passes<double>& passes_avx2<double>();
template const Passes<torch::headeronly::Half>& passes_avx2<torch::headeronly::Half>();
template const Passes<torch::headeronly::BFloat16>& passes_avx2<torch::headeronly::BFloat16>();

}  // namespace crnn
