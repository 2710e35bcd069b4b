// The tiles for x86 with AMX: W_hh's products by AMX in bfloat16, all else as AVX512 does it.
#if defined(__x86_64__) && !defined(__clang__)  // which wants more than a pragma before it takes AMX
#include <immintrin.h>
#include <torch/headeronly/util/BFloat16.h>

#include "tile.h"  // before the pragma: what others share is compiled for every processor

#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512,amx-tile,amx-bf16")
#include "amx_product.h"
#include "tile_scan.h"

namespace crnn {

template <typename S>
const Tiles<S>& tiles_amx() {
  static constexpr Tiles<S> tiles = tiles_of<S, AmxProduct>("amx", Cells{});
  return tiles;
}
template const Tiles<torch::headeronly::BFloat16>& tiles_amx<torch::headeronly::BFloat16>();

}  // namespace crnn
#endif
