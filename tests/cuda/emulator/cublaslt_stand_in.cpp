// cublasLt on the processor, written from NVIDIA's documentation ("Using the cublasLt API"), for product.cpp
// under emulation: column-major matrices, strided batches, the epilogues and types that csrc/cuda uses. It
// refuses what the documentation does, and what no test has asked for. Sums are made in float where
// cublasLt's are.
#include "cublaslt_stand_in.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "cublaslt.h"
#include "emulator.h"

namespace crnn {
namespace emulator {

bool no_cublaslt = false, refuse_epilogues = false;
int heuristics = 0;

}  // namespace emulator

namespace cublaslt {
namespace {

struct LayoutOf {
  int type;
  int64_t rows, columns, leading;
  int32_t batch = 1;
  int64_t stride = 0;
};

struct DescOf {
  int compute, scale_type;
  int32_t transpose_a = kOpN;
  uint32_t epilogue = kEpilogueDefault;
  const uint8_t* aux = nullptr;
  int64_t aux_leading = 0, aux_stride = 0;  // bits
};

struct PreferenceOf {
  uint64_t workspace_bytes = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

template <typename T>
Status put(T& attribute, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return kInvalidValue;
  std::memcpy(&attribute, value, bytes);
  return kSuccess;
}

template <typename Made, typename... Numbers>
Status make(void** out, Numbers... numbers) {
  *out = new Made{numbers...};
  return kSuccess;
}
template <typename Made>
Status destroy(void* made) {
  delete static_cast<Made*>(made);
  return kSuccess;
}

Status layout_set(Layout layout, int attribute, const void* value, size_t bytes) {
  LayoutOf& l = *static_cast<LayoutOf*>(layout);
  switch (attribute) {
    case kLayoutBatchCount:
      return put(l.batch, value, bytes);
    case kLayoutStridedBatchOffset:
      return put(l.stride, value, bytes);
  }
  return kInvalidValue;
}

Status desc_set(Desc desc, int attribute, const void* value, size_t bytes) {
  DescOf& d = *static_cast<DescOf*>(desc);
  switch (attribute) {
    case kDescTransA:
      return put(d.transpose_a, value, bytes);
    case kDescEpilogue:
      return put(d.epilogue, value, bytes);
    case kDescAuxPointer:
      return put(d.aux, value, bytes);
    case kDescAuxLd:
      return put(d.aux_leading, value, bytes);
    case kDescAuxBatchStride:
      return put(d.aux_stride, value, bytes);
  }
  return kInvalidValue;
}

Status preference_set(Preference preference, int attribute, const void* value, size_t bytes) {
  PreferenceOf& p = *static_cast<PreferenceOf*>(preference);
  if (attribute == kPreferenceWorkspaceBytes) return put(p.workspace_bytes, value, bytes);
  if (attribute >= kPreferenceAlignmentA && attribute < kPreferenceAlignmentA + 4)
    return put(p.alignment[attribute - kPreferenceAlignmentA], value, bytes);
  return kInvalidValue;
}

int64_t size_of(int type) {
  return type == kR64F ? 8 : type == kR32F ? 4 : 2;
}

// "D = alpha op(A) op(B) + beta C": the table of types of cublasLtMatmul, as far as the scan needs it.
bool types_fit(const DescOf& op, const LayoutOf& a, const LayoutOf& b, const LayoutOf& c, const LayoutOf& d) {
  if (a.type != b.type || c.type != d.type) return false;
  if (op.compute == kCompute64F) return op.scale_type == kR64F && a.type == kR64F && d.type == kR64F;
  if (op.scale_type != kR32F) return false;
  if (op.compute == kCompute32FFastTf32) return a.type == kR32F && d.type == kR32F;
  if (op.compute != kCompute32F || a.type == kR64F) return false;
  return d.type == kR32F || d.type == a.type;
}

Status judge(const DescOf& op, const LayoutOf& a, const LayoutOf& b, const LayoutOf& c, const LayoutOf& d) {
  const bool across = op.transpose_a == kOpT;
  const int64_t rows = across ? a.columns : a.rows, inner = across ? a.rows : a.columns;
  if (rows != d.rows || inner != b.rows || b.columns != d.columns || c.rows != d.rows ||
      c.columns != d.columns)
    return kInvalidValue;
  if (d.rows < 1 || d.columns < 1 || inner < 1 || d.batch < 1) return kInvalidValue;
  for (const LayoutOf* l : {&a, &b, &c, &d})
    if (l->leading < l->rows || l->batch != d.batch) return kInvalidValue;
  if (!types_fit(op, a, b, c, d)) return kNotSupported;
  if (op.epilogue == kEpilogueDefault) return kSuccess;
  if (emulator::refuse_epilogues || d.type == kR64F) return kNotSupported;
  if (op.epilogue == kEpilogueRelu) return kSuccess;
  if (op.epilogue != kEpilogueDRelu || inner == 1) return kNotSupported;
  const bool fits =
      op.aux && op.aux_leading % 128 == 0 && op.aux_leading >= d.rows && op.aux_stride % 128 == 0;
  return fits && reinterpret_cast<uintptr_t>(op.aux) % 16 == 0 ? kSuccess : kInvalidValue;
}

Status heuristic(Handle, Desc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
    HeuristicResult* results, int* found) {
  ++emulator::heuristics;
  *found = 0;
  if (wanted < 1) return kInvalidValue;
  const auto& of = [](Layout l) -> const LayoutOf& { return *static_cast<LayoutOf*>(l); };
  const Status status = judge(*static_cast<DescOf*>(desc), of(a), of(b), of(c), of(d));
  if (status != kSuccess) return status;
  const PreferenceOf& p = *static_cast<PreferenceOf*>(preference);
  *results = {};
  results->workspace_bytes = p.workspace_bytes;
  for (int i = 0; i < 4; ++i) results->algo.data[i] = p.alignment[i];  // what matmul may rely on
  results->algo.data[4] = p.workspace_bytes;
  *found = 1;
  return kSuccess;
}

template <typename T>
double read(const void* data, int64_t index) {
  return double(static_cast<const T*>(data)[index]);
}
double value_at(const void* data, int64_t index, int type) {
  switch (type) {
    case kR64F:
      return read<double>(data, index);
    case kR32F:
      return read<float>(data, index);
    case kR16BF:
      return read<BFloat16>(data, index);
    default:
      return read<Half>(data, index);
  }
}
void write(void* data, int64_t index, int type, double v) {
  switch (type) {
    case kR64F:
      static_cast<double*>(data)[index] = v;
      break;
    case kR32F:
      static_cast<float*>(data)[index] = float(v);
      break;
    case kR16BF:
      static_cast<BFloat16*>(data)[index] = BFloat16(float(v));
      break;
    default:
      static_cast<Half*>(data)[index] = Half(float(v));
  }
}

// Matrix `b` of a batch as S, dense, column after column; `across`: its transpose.
template <typename S>
std::vector<S> dense(const void* data, const LayoutOf& l, int b, bool across, bool tf32) {
  std::vector<S> out(l.rows * l.columns);
  for (int64_t j = 0; j < l.columns; ++j)
    for (int64_t i = 0; i < l.rows; ++i) {
      S v = S(value_at(data, b * l.stride + j * l.leading + i, l.type));
      if (tf32) v = S(__builtin_bit_cast(float, device::tf32(float(v))));
      out[across ? i * l.columns + j : j * l.rows + i] = v;
    }
  return out;
}

// Sums of S, in lanes as a vector unit makes them.
template <typename S>
S dot(const S* a, const S* b, int64_t size) {
  S lanes[8] = {}, rest = 0;
  int64_t i = 0;
  for (; i + 8 <= size; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  for (; i < size; ++i) rest += a[i] * b[i];
  for (S lane : lanes) rest += lane;
  return rest;
}

template <typename S>
void multiply(const DescOf& op, S alpha, const void* a, const LayoutOf& la, const void* b, const LayoutOf& lb,
    S beta, const void* c, const LayoutOf& lc, void* d, const LayoutOf& ld) {
  const bool tf32 = op.compute == kCompute32FFastTf32;
  for (int m = 0; m < ld.batch; ++m) {
    // Rows of op(A), dense: A itself read along its columns, or its transpose.
    const std::vector<S> left = dense<S>(a, la, m, op.transpose_a == kOpN, tf32),
                         right = dense<S>(b, lb, m, false, tf32);
    for (int64_t j = 0; j < ld.columns; ++j)
      for (int64_t i = 0; i < ld.rows; ++i) {
        S v = alpha * dot(left.data() + i * lb.rows, right.data() + j * lb.rows, lb.rows);
        if (beta != S(0)) v += beta * S(value_at(c, m * lc.stride + j * lc.leading + i, lc.type));
        if (op.epilogue == kEpilogueRelu) v = v < S(0) ? S(0) : v;
        if (op.epilogue == kEpilogueDRelu) {
          const uint8_t byte = op.aux[(m * op.aux_stride + j * op.aux_leading) / 8 + i / 8];
          v = byte >> i % 8 & 1 ? v : S(0);
        }
        write(d, m * ld.stride + j * ld.leading + i, ld.type, double(v));
      }
  }
}

bool aligned(const void* data, const LayoutOf& l, uint64_t bytes) {
  const uint64_t row = l.leading * size_of(l.type), matrix = l.stride * size_of(l.type);
  return (reinterpret_cast<uintptr_t>(data) | (l.columns > 1 ? row : 0) | (l.batch > 1 ? matrix : 0)) %
             bytes ==
         0;
}

Status matmul(Handle, Desc desc, const void* alpha, const void* a, Layout la, const void* b, Layout lb,
    const void* beta, const void* c, Layout lc, void* d, Layout ld, const Algo* algo, void* workspace,
    size_t workspace_bytes, Stream) {
  const DescOf& op = *static_cast<DescOf*>(desc);
  const void* const data[] = {a, b, c, d};
  const LayoutOf* layouts[4];
  for (int i = 0; i < 4; ++i) layouts[i] = static_cast<LayoutOf*>(std::array<Layout, 4>{la, lb, lc, ld}[i]);
  const Status status = judge(op, *layouts[0], *layouts[1], *layouts[2], *layouts[3]);
  if (status != kSuccess) return status;
  if (workspace_bytes < algo->data[4] || !workspace) return kInvalidValue;
  for (int i = 0; i < 4; ++i)
    if (!aligned(data[i], *layouts[i], std::min<uint64_t>(algo->data[i], 16))) return kInvalidValue;
  if (c == d && (layouts[2]->leading != layouts[3]->leading || layouts[2]->stride != layouts[3]->stride))
    return kInvalidValue;
  const auto run = [&](auto one) {
    using S = decltype(one);
    multiply<S>(op, *static_cast<const S*>(alpha), a, *layouts[0], b, *layouts[1],
        *static_cast<const S*>(beta), c, *layouts[2], d, *layouts[3]);
  };
  if (op.compute == kCompute64F)
    run(double{});
  else
    run(float{});
  return kSuccess;
}

}  // namespace

const Library* library() {
  static const Library stand_in = {[](Handle* handle) { return *handle = &emulator::heuristics, kSuccess; },
      [](Status status) {
        return status == kNotSupported ? "the requested functionality is not supported"
                                       : "an unsupported value or parameter was passed to the function";
      },
      [](Layout* out, int type, uint64_t rows, uint64_t columns, int64_t leading) {
        return make<LayoutOf>(out, type, int64_t(rows), int64_t(columns), leading);
      },
      destroy<LayoutOf>, layout_set,
      [](Desc* out, int compute, int scale_type) { return make<DescOf>(out, compute, scale_type); },
      destroy<DescOf>, desc_set, [](Preference* out) { return make<PreferenceOf>(out); },
      destroy<PreferenceOf>, preference_set, heuristic, matmul};
  return emulator::no_cublaslt ? nullptr : &stand_in;
}

}  // namespace cublaslt
}  // namespace crnn
