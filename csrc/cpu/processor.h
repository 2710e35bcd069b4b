// Which instruction sets the processor has, and the choice among kernels compiled for each.
#pragma once

#include <torch/csrc/stable/macros.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace crnn {

// Whether kernels called `name` run on this processor.
inline bool supported(std::string_view name) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (name == "avx2") return avx2;
  if (name == "avx512")
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return name == "portable";
}

// Of `tables`, best first, the one called `variant`; for "" the first that the processor runs.
template <typename Table>
const Table& choose(const char* op, const std::string& variant, std::initializer_list<const Table*> tables) {
  for (const Table* table : tables) {
    if (!variant.empty() && variant != table->name) continue;
    STD_TORCH_CHECK(
        variant.empty() || supported(variant), op, ": this processor cannot run variant '", variant, "'");
    if (supported(table->name)) return *table;
  }
  STD_TORCH_CHECK(false, op, ": unknown variant '", variant, "' on cpu; known: avx512, avx2, portable");
}

}  // namespace crnn
