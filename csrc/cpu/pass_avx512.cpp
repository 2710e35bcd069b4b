// The passes over memory for x86 with AVX512.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "pass.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#include "lrn_tile.h"
#include "update_piece.h"

namespace crnn {

template <typename S>
const Passes<S>& passes_avx512() {
  static constexpr Passes<S> passes = passes_of<S>("avx512", Rules{});
  return passes;
}
template const Passes<float>& passes_avx512<float>();
template const Passes<double>& passes_avx512<double>();
template const Passes<torch::headeronly::Half>& passes_avx512<torch::headeronly::Half>();
template const Passes<torch::headeronly::BFloat16>& passes_avx512<torch::headeronly::BFloat16>();

}  // namespace crnn
