// The tiles for any processor: 16-byte vectors, 12 accumulators.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "tile.h"  // before the pragma: what others share is compiled for every processor

#include "tile_scan.h"

namespace crnn {

template <typename S>
const Tiles<S>& tiles_portable() {
  static constexpr Tiles<S> tiles = tiles_of<S, Blocked<Compute<S>, 16, 4, 3>>("portable", Cells{});
  return tiles;
}
template const Tiles<float>& tiles_portable<float>();
template const Tiles<double>& tiles_portable<double>();
template const Tiles<torch::headeronly::Half>& tiles_portable<torch::headeronly::Half>();
template const Tiles<torch::headeronly::BFloat16>& tiles_portable<torch::headeronly::BFloat16>();

}  // namespace crnn
