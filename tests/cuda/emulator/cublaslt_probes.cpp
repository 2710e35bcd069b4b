// Ops that let the tests set the stand-in for cublasLt and call csrc/cuda/product.cpp, which they test
// through it.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "cublaslt_stand_in.h"
#include "dtype_of.h"
#include "product.h"

namespace {

using namespace crnn;
using torch::stable::Tensor;

void cublaslt(bool found, bool epilogues) {
  emulator::no_cublaslt = !found, emulator::refuse_epilogues = !epilogues;
}

int64_t cublaslt_asked() {
  return emulator::heuristics;
}

Product::Strides strides(const Tensor& t, int64_t unit = 1) {
  return {t.stride(1) * unit, t.stride(0) * unit};
}

// out [B, rows, outer] = epilogue(in [B, rows, inner] W^T + added); W [B, outer, inner], `reversed` its
// transpose. mask [B, rows, bytes]: its strides are what cublasLt is told.
void product(Tensor out, Tensor w, Tensor in, std::optional<Tensor> added, std::optional<Tensor> mask,
    bool reversed, bool relu, bool tf32, int64_t alignment) {
  Product p{
      in.size(0), in.size(1), in.size(2), out.size(2), dtype_of(w, "product"), dtype_of(out, "product")};
  p.w = strides(w), p.in = strides(in), p.out = strides(out);
  if (added) p.added = strides(*added);
  if (mask) p.mask = strides(*mask, 8);
  p.reversed = reversed, p.adds = added.has_value(), p.tf32 = tf32, p.alignment = alignment;
  p.epilogue = mask ? Epilogue::kMask : relu ? Epilogue::kRelu : Epilogue::kNone;
  ProductPlan* plan = plan_product(p, 0);
  if (!plan) throw std::runtime_error("no algorithm");
  std::vector<unsigned char> workspace(kWorkspaceBytes);
  multiply(*plan,
      {w.const_data_ptr(), in.const_data_ptr(), added ? added->const_data_ptr() : nullptr,
          out.mutable_data_ptr(), mask ? mask->const_data_ptr() : nullptr},
      workspace.data(), nullptr);
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(crnn_emulator, m) {
  m.def("cublaslt(bool found, bool epilogues) -> ()");
  m.def("cublaslt_asked() -> int");
  m.def(
      "product(Tensor(a!) out, Tensor w, Tensor input, Tensor? added, Tensor? mask, bool reversed, bool "
      "relu, "
      "bool tf32, int alignment) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(crnn_emulator, CompositeExplicitAutograd, m) {
  m.impl("cublaslt", TORCH_BOX(&cublaslt));
  m.impl("cublaslt_asked", TORCH_BOX(&cublaslt_asked));
  m.impl("product", TORCH_BOX(&product));
}
