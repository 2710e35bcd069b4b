// The tiles that no test asks for, by name alone: the tables of scan_cpu.cpp and scan_weights_cpu.cpp list
// them.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "tile.h"

namespace crnn {

#define TILES(NAME, S)                      \
  template <>                               \
  const Tiles<S>& tiles_##NAME<S>() {       \
    static constexpr Tiles<S> tiles{#NAME}; \
    return tiles;                           \
  }
#define TILES_OF_EACH_TYPE(NAME)       \
  TILES(NAME, float)                   \
  TILES(NAME, double)                  \
  TILES(NAME, torch::headeronly::Half) \
  TILES(NAME, torch::headeronly::BFloat16)

TILES_OF_EACH_TYPE(portable)
TILES_OF_EACH_TYPE(avx2)
TILES(avx512, torch::headeronly::Half)
TILES(avx512, torch::headeronly::BFloat16)

}  // namespace crnn
