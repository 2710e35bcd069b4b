// The tiles for x86 with AVX512: 64-byte vectors, 24 of the 32 registers accumulate.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "tile.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#include "tile_scan.h"

namespace crnn {

template <typename S>
const Tiles<S>& tiles_avx512() {
  static constexpr Tiles<S> tiles = tiles_of<S, Blocked<Compute<S>, 64, 4, 6>>("avx512", Cells{});
  return tiles;
}
template const Tiles<float>& tiles_avx512<float>();
template const Tiles<double>& tiles_avx512<double>();
template const Tiles<torch::headeronly::Half>& tiles_avx512<torch::headeronly::Half>();
template const Tiles<torch::headeronly::BFloat16>& tiles_avx512<torch::headeronly::BFloat16>();

}  // namespace crnn
