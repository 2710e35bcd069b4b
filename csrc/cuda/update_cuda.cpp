// The boundary of the update op on CUDA: checks and starts the kernel, as many blobs at a time as a launch
// takes. Compiled by the C++ compiler; only the .cu files need nvcc.
#include "update_cuda.h"

#include "dtype_of.h"
#include "on_device.h"
#include "update_call.h"

namespace crnn {
namespace {

bool aligned(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}

UpdateBlob blob_of(const UpdateInputs& in, size_t i) {
  const size_t blobs = in.blobs.size();
  UpdateBlob b{in.blobs[i].mutable_data_ptr(), in.grads[i].const_data_ptr(), {}, in.blobs[i].numel(), true};
  b.aligned = aligned(b.blob) && aligned(b.grad);
  for (size_t h = 0; h * blobs < in.history.size(); ++h) {
    b.history[h] = in.history[h * blobs + i].mutable_data_ptr();
    b.aligned &= aligned(b.history[h]);
  }
  return b;
}

}  // namespace

void update_cuda(std::vector<Tensor> blobs, std::vector<Tensor> grads, std::vector<Tensor> history, Text rule,
    std::vector<double> numbers, double rate, double decay, bool l1, double scale, Text variant) {
  const UpdateInputs in{std::move(blobs), std::move(grads), std::move(history), std::move(rule),
      std::move(numbers), rate, decay, l1, scale};
  check_update(in);
  STD_TORCH_CHECK(variant.empty() || variant == "plain", "crnn::update: unknown variant '", variant,
      "' on cuda; known: plain");
  const OnDevice on(in.blobs[0]);
  UpdateCall call{rate, decay, scale, {}, in.regularizer(), dtype_of(in.blobs[0], "crnn::update"),
      Rules::index(in.rule), 0, {}, {}};
  std::copy(in.numbers.begin(), in.numbers.end(), call.numbers);
  for (size_t i = 0; i < in.blobs.size(); ++i) {
    if (in.blobs[i].numel() > 0) call.blob[call.blobs++] = blob_of(in, i);
    if (call.blobs == 0 || (call.blobs < kLaunchBlobs && i + 1 < in.blobs.size())) continue;
    start_update(call, on.stream);
    call.blobs = 0;
  }
}

}  // namespace crnn
