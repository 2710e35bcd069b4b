// The tiles for x86 with AVX2 and FMA: 32-byte vectors, 12 of the 16 registers accumulate.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "tile.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,prefer-vector-width=256")
#endif
#include "tile_scan.h"

namespace crnn {

template <typename S>
const Tiles<S>& tiles_avx2() {
  static constexpr Tiles<S> tiles = tiles_of<S, Blocked<Compute<S>, 32, 2, 6>>("avx2", Cells{});
  return tiles;
}
template const Tiles<float>& tiles_avx2<float>();
template const Tiles<double>& tiles_avx2<double>();
template const Tiles<torch::headeronly::Half>& tiles_avx2<torch::headeronly::Half>();
template const Tiles<torch::headeronly::BFloat16>& tiles_avx2<torch::headeronly::BFloat16>();

}  // namespace crnn
