// Which instruction sets the processor has, and the choice among kernels compiled for each.
#pragma once

#include <torch/csrc/stable/macros.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace crnn {

// Whether kernels called `name` run on this processor.
bool supported(std::string_view name);

// Of `tables`, best first, the one called `variant`; for "" the first that the processor runs.
template <typename Table>
const Table& choose(const char* op, const std::string& variant, std::initializer_list<const Table*> tables) {
  std::string known;
  for (const Table* table : tables) {
    known += std::string(known.empty() ? "" : ", ") + table->name;
    if (!variant.empty() && variant != table->name) continue;
    STD_TORCH_CHECK(
        variant.empty() || supported(variant), op, ": this processor cannot run variant '", variant, "'");
    if (supported(table->name)) return *table;
  }
  STD_TORCH_CHECK(
      false, op, ": unknown variant '", variant, "' on cpu; known: ", known, " (for tensors of this type)");
}

}  // namespace crnn
