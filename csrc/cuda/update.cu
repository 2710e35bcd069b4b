// The solver's update: many blobs in one launch, one pass over memory.
//
//   work     a block: kBlockVectors times 16 bytes of one blob; a thread: 16 bytes of each of its tensors
//            at a time, or value by value where they are not aligned and at a blob's end
//   memory   values go through registers; the list of blobs travels in the launch's parameters
//   sync     none
//   needs    dense blobs, whose gradient and histories lie alike
//   cost     blob, gradient and histories are read once, blob and histories written once
#include "by_dtype.h"
#include "launch.h"
#include "update_call.h"

namespace crnn {
namespace {

constexpr int kThreads = 256, kBlockVectors = 4 * kThreads;

template <typename S>
constexpr int64_t kBlockValues = kBlockVectors * int64_t(16 / sizeof(S));

// The numbers of a call in the computing type.
template <typename T>
struct UpdateNumbers {
  T rate, decay, scale, rule[kMaxNumbers];
  Regularizer regularizer;

  CRNN_DEVICE explicit UpdateNumbers(const UpdateCall& c)
      : rate(T(c.rate)), decay(T(c.decay)), scale(T(c.scale)), regularizer(c.regularizer) {
#pragma unroll
    for (int i = 0; i < kMaxNumbers; ++i) rule[i] = T(c.numbers[i]);
  }
};

// One value: w and its histories h move.
template <typename Rule, typename S, typename T>
CRNN_DEVICE void move(const UpdateNumbers<T>& n, S& w, S g, S (&history)[kMaxHistories]) {
  T h[kMaxHistories], out;
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) h[j] = widen<T>(history[j]);
  const T wide = widen<T>(w), gradient = widen<T>(g);
  switch (n.regularizer) {
    case Regularizer::kNone:
      out = updated<Rule, Regularizer::kNone>(wide, gradient, n.scale, n.decay, n.rate, n.rule, h);
      break;
    case Regularizer::kL2:
      out = updated<Rule, Regularizer::kL2>(wide, gradient, n.scale, n.decay, n.rate, n.rule, h);
      break;
    default:
      out = updated<Rule, Regularizer::kL1>(wide, gradient, n.scale, n.decay, n.rate, n.rule, h);
  }
  w = narrow<S>(out);
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) history[j] = narrow<S>(h[j]);
}

template <typename S>
struct Lanes {
  static constexpr int kCount = 16 / sizeof(S);
  S value[kCount];
};

template <typename S>
CRNN_DEVICE Lanes<S> load_lanes(const void* from, int64_t at) {
  const device::Sixteen bytes = *reinterpret_cast<const device::Sixteen*>(static_cast<const S*>(from) + at);
  Lanes<S> lanes;
  __builtin_memcpy(lanes.value, &bytes, 16);
  return lanes;
}
template <typename S>
CRNN_DEVICE void store_lanes(void* to, int64_t at, const Lanes<S>& lanes) {
  device::Sixteen bytes;
  __builtin_memcpy(&bytes, lanes.value, 16);
  *reinterpret_cast<device::Sixteen*>(static_cast<S*>(to) + at) = bytes;
}

template <typename Rule, typename S, typename T>
CRNN_DEVICE void move_lanes(const UpdateNumbers<T>& n, const UpdateBlob& b, int64_t at) {
  Lanes<S> w = load_lanes<S>(b.blob, at), h[kMaxHistories];
  const Lanes<S> g = load_lanes<S>(b.grad, at);
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) h[j] = load_lanes<S>(b.history[j], at);
#pragma unroll
  for (int l = 0; l < Lanes<S>::kCount; ++l) {
    S history[kMaxHistories];
#pragma unroll
    for (int j = 0; j < Rule::kHistories; ++j) history[j] = h[j].value[l];
    move<Rule>(n, w.value[l], g.value[l], history);
#pragma unroll
    for (int j = 0; j < Rule::kHistories; ++j) h[j].value[l] = history[j];
  }
  store_lanes<S>(b.blob, at, w);
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) store_lanes<S>(b.history[j], at, h[j]);
}

template <typename Rule, typename S, typename T>
CRNN_DEVICE void move_value(const UpdateNumbers<T>& n, const UpdateBlob& b, int64_t at) {
  S history[kMaxHistories], &w = static_cast<S*>(b.blob)[at];
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) history[j] = static_cast<const S*>(b.history[j])[at];
  move<Rule>(n, w, static_cast<const S*>(b.grad)[at], history);
#pragma unroll
  for (int j = 0; j < Rule::kHistories; ++j) static_cast<S*>(b.history[j])[at] = history[j];
}

template <typename Rule, typename S>
CRNN_KERNEL(kThreads, 1)
update_kernel(UpdateCall c) {
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  constexpr int kLanes = Lanes<S>::kCount;
  const int64_t block = device::block_x();
  int i = 0;
  while (block >= c.first_block[i + 1]) ++i;  // at most kLaunchBlobs, the same for all threads
  const UpdateBlob& b = c.blob[i];
  const UpdateNumbers<T> n(c);
  const int64_t first = (block - c.first_block[i]) * kBlockValues<S>;
  const int64_t end = first + kBlockValues<S> < b.count ? first + kBlockValues<S> : b.count;
  int64_t whole = first;  // the end of what goes 16 bytes at a time
  if (b.aligned) {
    whole = first + (end - first) / kLanes * kLanes;
#pragma unroll 2
    for (int64_t at = first + device::thread() * kLanes; at < whole; at += kThreads * kLanes)
      move_lanes<Rule, S>(n, b, at);
  }
  for (int64_t at = whole + device::thread(); at < end; at += kThreads) move_value<Rule, S>(n, b, at);
}

template <typename... Rule, typename Run>
void by_rule(CellList<Rule...>, int rule, Run&& run) {
  int at = 0;
  ((at++ == rule ? run(Rule{}) : void()), ...);
}

}  // namespace

void start_update(UpdateCall& call, void* stream) {
  by_dtype(call.dtype, [&](auto s) {
    using S = decltype(s);
    for (int i = 0; i < call.blobs; ++i)
      call.first_block[i + 1] =
          call.first_block[i] + (call.blob[i].count + kBlockValues<S> - 1) / kBlockValues<S>;
    by_rule(Rules{}, call.rule, [&](auto rule) {
      launch("update", update_kernel<decltype(rule), S>, Grid{call.first_block[call.blobs], 1, kThreads},
          stream, call);
    });
  });
}

}  // namespace crnn
