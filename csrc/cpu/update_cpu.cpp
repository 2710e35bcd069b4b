// The solver's update on the CPU: the blobs are cut into pieces that the threads share (update_piece.h).
//
//   order    a value's result depends on nothing but its own inputs: equal bits for any number of threads
//   cost     blob, gradient and histories are read once, blob and histories written once
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "../core/text.h"
#include "../core/update.h"
#include "pass.h"
#include "processor.h"
#include "share_out.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t kPiece = 64 * 1024;  // values: enough work for a thread to be worth waking

template <typename S>
std::vector<UpdatePiece<S>> pieces(UpdateInputs& in) {
  std::vector<UpdatePiece<S>> list;
  const size_t blobs = in.blobs.size(), histories = in.history.size() / blobs;
  for (size_t b = 0; b < blobs; ++b) {
    UpdatePiece<S> whole{in.blobs[b].mutable_data_ptr<S>(), in.grads[b].const_data_ptr<S>(), {}, 0};
    for (size_t h = 0; h < histories; ++h) whole.history[h] = in.history[h * blobs + b].mutable_data_ptr<S>();
    const int64_t total = in.blobs[b].numel();
    for (int64_t first = 0; first < total; first += kPiece) {
      UpdatePiece<S> piece{whole.blob + first, whole.grad + first, {}, std::min(kPiece, total - first)};
      for (size_t h = 0; h < histories; ++h) piece.history[h] = whole.history[h] + first;
      list.push_back(piece);
    }
  }
  return list;
}

template <typename S>
void run(UpdateInputs& in, const std::string& variant) {
  using T = Compute<S>;
  const Passes<S>& passes =
      choose("crnn::update", variant, {&passes_avx512<S>(), &passes_avx2<S>(), &passes_portable<S>()});
  UpdateCall<S> call{T(in.rate), T(in.decay), T(in.scale), in.regularizer(), {}};
  std::copy(in.numbers.begin(), in.numbers.end(), call.numbers);
  const auto update = passes.update[Rules::index(in.rule)];
  const std::vector<UpdatePiece<S>> work = pieces<S>(in);
  share_out(work.size(), [&] { return [&](int64_t i) { update(call, work[i]); }; });
}

void update_cpu(std::vector<Tensor> blobs, std::vector<Tensor> grads, std::vector<Tensor> history, Text rule,
    std::vector<double> numbers, double rate, double decay, bool l1, double scale, Text variant) {
  UpdateInputs in{std::move(blobs), std::move(grads), std::move(history), std::move(rule), std::move(numbers),
      rate, decay, l1, scale};
  check_update(in);
  THO_DISPATCH_V2(in.blobs[0].scalar_type(), "crnn::update on cpu",
      AT_WRAP([&] { run<scalar_t>(in, variant); }), AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half,
      ScalarType::BFloat16);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("update", TORCH_BOX(&update_cpu));
}

}  // namespace crnn
