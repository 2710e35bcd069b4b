// A batch of matrix products by cublasLt, as a step of a scan needs it. Host code without CUDA or torch in
// it.
//
// For each matrix of the batch, row by row:   out = epilogue(in W^T + added)   or, `reversed`,   in W.
#pragma once

#include <compare>
#include <cstdint>

#include "scan_call.h"  // Dtype

namespace crnn {

enum class Epilogue {
  kNone,
  kRelu,
  kMask,  // 0 where the mask's bit is 0; bit c % 8 of a row's byte c / 8 is channel c
};

struct Product {
  struct Strides {
    int64_t row, matrix;  // elements (of the mask: bits) from row to row, from matrix to matrix
    auto operator<=>(const Strides&) const = default;
  };
  int64_t batch, rows;                                // matrices; rows of each
  int64_t inner, outer;                               // channels of a row of `in`, of `out`
  Dtype dtype, result;                                // of W and `in`; of `added` and `out`
  Strides w, in, added, out;                          // W is [outer, inner], reversed [inner, outer]
  bool reversed = false, adds = false, tf32 = false;  // tf32: floats may be rounded to it
  Epilogue epilogue = Epilogue::kNone;
  Strides mask = {};       // multiples of 128
  int64_t alignment = 16;  // bytes: every operand, and every row and matrix of it, begins at a multiple
  auto operator<=>(const Product&) const = default;
};

struct Operands {
  const void *w, *in, *added;  // `added` null without one
  void* out;                   // may be `added`
  const void* mask = nullptr;
};

// Bytes that a product may use besides its operands, at a multiple of 256: what NVIDIA advises for Hopper.
constexpr int64_t kWorkspaceBytes = 32 << 20;

// A product as cublasLt's descriptions and the algorithm it advises.
struct ProductPlan;

// Whether there is a cublasLt in this process.
bool can_multiply();

// The plan of a product on device `device`, the current one; null where cublasLt has no algorithm for it.
// Made at its first use, on the host alone, and kept for the life of the process. The first of a device makes
// cublasLt's handle, which the capture of a CUDA graph may forbid: warm up before it, as torch asks.
ProductPlan* plan_product(const Product& product, int device);

// Enqueues the product. Waits for nothing and allocates nothing on the device. Throws std::runtime_error in
// words where cublasLt fails.
void multiply(ProductPlan& plan, const Operands& operands, void* workspace, void* stream);

}  // namespace crnn
