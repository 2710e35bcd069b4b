// From a cell's place in Cells to its type.
#pragma once

#include "../core/cells.h"

namespace crnn {

// Calls run(Cell{}) for the cell at place `index`.
template <typename... Cell, typename Run>
void by_cell(CellList<Cell...>, int index, Run&& run) {
  int at = 0;
  ((at++ == index ? run(Cell{}) : void()), ...);
}

}  // namespace crnn
