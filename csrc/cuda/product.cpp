// Products as cublasLt's plans, each made once. In its column-major words a row-major matrix is its
// transpose: out^T = op(W) in^T, where W, [rows, columns] in memory, is a matrix of `columns` rows.
#include "product.h"

#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "cublaslt.h"

namespace crnn {
namespace {

namespace lt = cublaslt;
using Object = std::unique_ptr<void, lt::Status (*)(void*)>;

void check(lt::Status status, const char* what) {
  if (status != lt::kSuccess)
    throw std::runtime_error(
        std::string("crnn: ") + what + " failed: " + lt::library()->status_string(status));
}

int type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kDouble:
      return lt::kR64F;
    case Dtype::kFloat:
      return lt::kR32F;
    case Dtype::kBFloat16:
      return lt::kR16BF;
    case Dtype::kHalf:
      return lt::kR16F;
  }
  return -1;
}

uint32_t epilogue_of(Epilogue epilogue) {
  return epilogue == Epilogue::kRelu   ? lt::kEpilogueRelu
         : epilogue == Epilogue::kMask ? lt::kEpilogueDRelu
                                       : lt::kEpilogueDefault;
}

template <typename T>
void set(
    lt::Status (*setter)(void*, int, const void*, size_t), const Object& object, int attribute, T value) {
  check(setter(object.get(), attribute, &value, sizeof(T)), "describing a product to cublasLt");
}

Object layout(int type, int64_t rows, int64_t columns, int64_t batch, const Product::Strides& strides) {
  const lt::Library& l = *lt::library();
  lt::Layout made = nullptr;
  check(l.layout_create(&made, type, uint64_t(rows), uint64_t(columns), strides.row),
      "cublasLtMatrixLayoutCreate");
  Object object(made, l.layout_destroy);
  set(l.layout_set, object, lt::kLayoutBatchCount, int32_t(batch));
  set(l.layout_set, object, lt::kLayoutStridedBatchOffset, strides.matrix);
  return object;
}

Object desc(const Product& p) {
  const lt::Library& l = *lt::library();
  const bool doubles = p.dtype == Dtype::kDouble;
  const int compute = doubles ? lt::kCompute64F : p.tf32 ? lt::kCompute32FFastTf32 : lt::kCompute32F;
  lt::Desc made = nullptr;
  check(l.desc_create(&made, compute, doubles ? lt::kR64F : lt::kR32F), "cublasLtMatmulDescCreate");
  Object object(made, l.desc_destroy);
  set(l.desc_set, object, lt::kDescTransA, p.reversed ? lt::kOpN : lt::kOpT);
  set(l.desc_set, object, lt::kDescEpilogue, epilogue_of(p.epilogue));
  if (p.epilogue == Epilogue::kMask) {
    set(l.desc_set, object, lt::kDescAuxPointer,
        reinterpret_cast<const void*>(uintptr_t(16)));  // its alignment
    set(l.desc_set, object, lt::kDescAuxLd, p.mask.row);
    set(l.desc_set, object, lt::kDescAuxBatchStride, p.mask.matrix);
  }
  return object;
}

}  // namespace

struct ProductPlan {
  const Product product;
  const lt::Handle handle;
  const Object operation, w, in, added, out;
  bool supported = false;
  lt::Algo algo{};
  std::mutex mutex;  // the mask's address is part of `operation`

  ProductPlan(const Product& p, lt::Handle handle)
      : product(p),
        handle(handle),
        operation(desc(p)),
        w(p.reversed ? layout(type_of(p.dtype), p.outer, p.inner, p.batch, p.w)
                     : layout(type_of(p.dtype), p.inner, p.outer, p.batch, p.w)),
        in(layout(type_of(p.dtype), p.inner, p.rows, p.batch, p.in)),
        added(p.adds && p.added != p.out ? layout(type_of(p.result), p.outer, p.rows, p.batch, p.added)
                                         : Object(nullptr, nullptr)),
        out(layout(type_of(p.result), p.outer, p.rows, p.batch, p.out)) {
    const lt::Library& l = *lt::library();
    lt::Preference made = nullptr;
    check(l.preference_create(&made), "cublasLtMatmulPreferenceCreate");
    const Object preference(made, l.preference_destroy);
    set(l.preference_set, preference, lt::kPreferenceWorkspaceBytes, uint64_t(kWorkspaceBytes));
    for (int i = 0; i < 4; ++i)
      set(l.preference_set, preference, lt::kPreferenceAlignmentA + i, uint32_t(p.alignment));
    lt::HeuristicResult best{};
    int found = 0;
    const lt::Status status = l.heuristic(
        handle, operation.get(), w.get(), in.get(), c(), out.get(), preference.get(), 1, &best, &found);
    supported = status == lt::kSuccess && found > 0 && best.state == lt::kSuccess;
    algo = best.algo;
  }
  // Of what is added: in place it must be the very layout of `out`.
  lt::Layout c() const { return added ? added.get() : out.get(); }
};

bool can_multiply() {
  return lt::library() != nullptr;
}

ProductPlan* plan_product(const Product& product, int device) {
  static std::mutex mutex;
  static std::map<int, lt::Handle> handles;
  static auto& plans =
      *new std::map<std::pair<int, Product>, ProductPlan>;  // at exit the library may be gone
  const std::lock_guard<std::mutex> lock(mutex);
  lt::Handle& handle = handles[device];
  if (!handle) check(lt::library()->create(&handle), "cublasLtCreate");
  const auto key = std::pair(device, product);
  ProductPlan& plan = plans.try_emplace(key, product, handle).first->second;
  return plan.supported ? &plan : nullptr;
}

void multiply(ProductPlan& plan, const Operands& operands, void* workspace, void* stream) {
  const Product& p = plan.product;
  const auto enqueue = [&](const void* one, const void* beta) {
    const std::lock_guard<std::mutex> lock(plan.mutex);
    if (p.epilogue == Epilogue::kMask)
      set(lt::library()->desc_set, plan.operation, lt::kDescAuxPointer, operands.mask);
    check(lt::library()->matmul(plan.handle, plan.operation.get(), one, operands.w, plan.w.get(), operands.in,
              plan.in.get(), beta, p.adds ? operands.added : operands.out, plan.c(), operands.out,
              plan.out.get(), &plan.algo, workspace, kWorkspaceBytes, stream),
        "cublasLtMatmul");
  };
  constexpr double kDoubles[] = {0, 1};
  constexpr float kFloats[] = {0, 1};
  if (p.dtype == Dtype::kDouble)
    enqueue(&kDoubles[1], &kDoubles[p.adds]);
  else
    enqueue(&kFloats[1], &kFloats[p.adds]);
}

}  // namespace crnn
