// The boundary of the lrn ops on CUDA: checks, makes the result, picks a kernel and starts it. Compiled by
// the C++ compiler; only the .cu files need nvcc.
#include "lrn_cuda.h"

#include "dtype_of.h"
#include "lrn_call.h"
#include "on_device.h"

namespace crnn {
namespace {

bool aligned(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0 && t.size(1) * t.element_size() % 16 == 0;
}

LrnCall call_of(const LrnShape& q, const LrnInputs& in, const Tensor& x, const Tensor& out) {
  LrnCall c{};
  c.dtype = dtype_of(x, "crnn::lrn");
  c.x = x.const_data_ptr(), c.out = out.mutable_data_ptr();
  c.N = q.N, c.C = q.C, c.H = q.H, c.W = q.W, c.channels_last = q.channels_last, c.within = in.within;
  c.size = std::max(reach(q, in), std::min<int64_t>(in.size, 5));  // the kernels of 3 and 5 take any map
  c.share = in.share(), c.beta = in.beta, c.k = in.k;
  c.aligned = aligned(x) && aligned(out);
  return c;
}

// The variant called `name`; for "" the first that fits.
const LrnVariant& choose(const std::string& name, const LrnCall& c) {
  std::string known;
  for (const LrnVariant* v : kLrnVariants) {
    known += std::string(known.empty() ? "" : ", ") + v->name;
    if (!name.empty() && name != v->name) continue;
    const char* misfit = v->misfit(c);
    if (!misfit) return *v;
    STD_TORCH_CHECK(name.empty(), "crnn::lrn on cuda: variant '", name, "' ", misfit);
  }
  STD_TORCH_CHECK(false, "crnn::lrn: unknown variant '", name, "' on cuda; known: ", known);
}

}  // namespace

Tensor lrn_cuda(
    const Tensor& x, int64_t size, double alpha, double beta, double k, bool within, Text variant) {
  const LrnInputs in{size, alpha, beta, k, within};
  const LrnShape q = check_lrn(x, in);
  const OnDevice on(x);
  Tensor y = torch::stable::empty_like(x);
  const LrnCall c = call_of(q, in, x, y);
  const LrnVariant& kernel = choose(variant, c);
  if (x.numel() > 0) kernel.run(c, false, on.stream);
  return y;
}

Tensor lrn_backward_cuda(const Tensor& dy, const Tensor& x, int64_t size, double alpha, double beta, double k,
    bool within, Text variant) {
  using torch::headeronly::ScalarType;
  const LrnInputs in{size, alpha, beta, k, within};
  const LrnShape q = check_lrn_backward(dy, x, in);
  const OnDevice on(x);
  Tensor dx = torch::stable::empty_like(x);
  LrnCall c = call_of(q, in, x, dx);
  c.dy = dy.const_data_ptr(), c.aligned &= aligned(dy);
  const LrnVariant& kernel = choose(variant, c);
  const int64_t count = kernel.needs_ratios ? x.numel() : 0;
  Tensor ratios = torch::stable::new_empty(
      x, {count}, c.dtype == Dtype::kDouble ? ScalarType::Double : ScalarType::Float);
  c.ratios = ratios.mutable_data_ptr();
  if (x.numel() > 0) kernel.run(c, true, on.stream);
  return dx;
}

}  // namespace crnn
