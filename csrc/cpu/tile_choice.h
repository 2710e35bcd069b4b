// The scan's tiles for this processor, or those that the caller names.
#pragma once

#include <torch/headeronly/util/BFloat16.h>

#include "processor.h"
#include "tile.h"

namespace crnn {

template <typename S>
const Tiles<S>& choose_tiles(const std::string& variant) {
#if defined(__x86_64__) && !defined(__clang__)  // as tile_amx.cpp
  if constexpr (std::is_same_v<S, torch::headeronly::BFloat16>)
    return choose(
        "crnn::scan", variant, {&tiles_amx<S>(), &tiles_avx512<S>(), &tiles_avx2<S>(), &tiles_portable<S>()});
#endif
  return choose("crnn::scan", variant, {&tiles_avx512<S>(), &tiles_avx2<S>(), &tiles_portable<S>()});
}

}  // namespace crnn
