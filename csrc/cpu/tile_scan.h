// The functions of a tile (tile.h) for one instruction set. Included by each tile_<name>.cpp after it has
// chosen the instruction set; includes nothing of the standard library: an inline function compiled here for
// a newer processor must not be the copy that the linker keeps for all.
#pragma once

#include "tile_backward.h"
#include "tile_forward.h"

namespace crnn {
namespace {

// The table that tile.h declares.
template <typename S, typename Product, typename... Cell>
constexpr Tiles<S> tiles_of(const char* name, CellList<Cell...>) {
  return {name, Product::kWidth, Product::kHeight,
      {+[](const ForwardCall<S>& c, const Unit& u, Compute<S>* scratch) {
        const typename Product::Prepared prepared(u.count);
        ForwardTile<Cell, S, Product>(c, u, scratch).run();
      }...},
      {run_backward<Cell, S, Product>...}, add_share<Product, S>, Product::packed_size, Product::pack};
}

}  // namespace
}  // namespace crnn
