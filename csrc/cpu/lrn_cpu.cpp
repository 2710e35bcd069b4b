// Local response normalisation on the CPU: a thread takes tiles that fit its cache (lrn_tile.h).
//
//   work     across channels: some positions of a sample with all their channels; within: all positions of
//            a channel, or of some channels in channels_last order
//   order    tiles and the sums inside them do not depend on the number of threads: equal bits for any number
//   cost     forward reads x and writes y; backward reads x and dy and writes dx: nothing else is kept
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../core/lrn.h"
#include "../core/text.h"
#include "pass.h"
#include "processor.h"
#include "share_out.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t kTileValues = 12 * 1024;  // all buffers of a tile together fit the second-level cache
constexpr int64_t kRun = 64;                // values read at once from a plane: some cache lines

// How many of `count` values side by side a tile takes where each brings `weight` values.
int64_t share_of(int64_t count, int64_t weight, int64_t least) {
  return std::min(count, std::max(least, kTileValues / weight / least * least));
}

template <typename S>
LrnCall<S> make_call(const LrnShape& q, const LrnInputs& in) {
  LrnCall<S> c{};
  c.size = reach(q, in), c.share = Compute<S>(in.share()), c.beta = Compute<S>(in.beta),
  c.k = Compute<S>(in.k);
  c.three_quarters = in.three_quarters();
  if (in.within) {
    c.down = c.along = true, c.rows = q.H, c.columns = q.W;
    c.lanes = q.channels_last ? share_of(q.C, q.H * q.W, 16) : 1;
    c.column_stride = q.channels_last ? q.C : 1, c.row_stride = q.W * c.column_stride;
  } else if (q.channels_last) {
    c.along = true, c.rows = share_of(q.H * q.W, q.C, 1), c.columns = q.C, c.lanes = 1, c.row_stride = q.C;
  } else {
    c.down = true, c.rows = q.C, c.columns = 1, c.lanes = share_of(q.H * q.W, q.C, kRun);
    c.row_stride = q.H * q.W;
  }
  return c;
}

template <typename S>
std::vector<LrnUnit> units(const LrnShape& q, const LrnInputs& in, const LrnCall<S>& c) {
  std::vector<LrnUnit> list;
  const int64_t P = q.H * q.W;
  for (int64_t n = 0; n < q.N; ++n) {
    const int64_t sample = n * q.C * P;
    if (in.within && !q.channels_last) {
      for (int64_t i = 0; i < q.C; ++i) list.push_back({sample + i * P, q.H, 1});
    } else if (in.within) {
      for (int64_t i = 0; i < q.C; i += c.lanes)
        list.push_back({sample + i, q.H, std::min(c.lanes, q.C - i)});
    } else if (q.channels_last) {
      for (int64_t p = 0; p < P; p += c.rows) list.push_back({sample + p * q.C, std::min(c.rows, P - p), 1});
    } else {
      for (int64_t p = 0; p < P; p += c.lanes) list.push_back({sample + p, q.C, std::min(c.lanes, P - p)});
    }
  }
  return list;
}

template <typename S>
void run(
    const LrnShape& q, const LrnInputs& in, const std::string& variant, const S* x, const S* dy, S* out) {
  if (q.N * q.C * q.H * q.W == 0) return;
  const Passes<S>& passes =
      choose("crnn::lrn", variant, {&passes_avx512<S>(), &passes_avx2<S>(), &passes_portable<S>()});
  LrnCall<S> c = make_call<S>(q, in);
  c.x = x, c.dy = dy, c.out = out;
  const auto tile = dy ? passes.lrn_backward : passes.lrn_forward;
  const std::vector<LrnUnit> work = units(q, in, c);
  share_out(work.size(), [&] {
    return [&, buffers = std::vector<Compute<S>>(kLrnBuffers * c.plane())](
               int64_t i) mutable { tile(c, work[i], buffers.data()); };
  });
}

Tensor lrn_cpu(
    const Tensor& x, int64_t size, double alpha, double beta, double k, bool within, Text variant) {
  const LrnInputs in{size, alpha, beta, k, within};
  const LrnShape q = check_lrn(x, in);
  Tensor y = torch::stable::empty_like(x);
  THO_DISPATCH_V2(x.scalar_type(), "crnn::lrn on cpu", AT_WRAP([&] {
    run<scalar_t>(q, in, variant, x.const_data_ptr<scalar_t>(), nullptr, y.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return y;
}

Tensor lrn_backward_cpu(const Tensor& dy, const Tensor& x, int64_t size, double alpha, double beta, double k,
    bool within, Text variant) {
  const LrnInputs in{size, alpha, beta, k, within};
  const LrnShape q = check_lrn_backward(dy, x, in);
  Tensor dx = torch::stable::empty_like(x);
  THO_DISPATCH_V2(x.scalar_type(), "crnn::lrn_backward on cpu", AT_WRAP([&] {
    run<scalar_t>(q, in, variant, x.const_data_ptr<scalar_t>(), dy.const_data_ptr<scalar_t>(),
        dx.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return dx;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("lrn", TORCH_BOX(&lrn_cpu));
  m.impl("lrn_backward", TORCH_BOX(&lrn_backward_cpu));
}

}  // namespace crnn
