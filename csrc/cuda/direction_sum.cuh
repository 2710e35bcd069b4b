// The sum of the directions, by the blocks that scanned them, while their states are in the second-level
// cache.
//
//   work     the K directions of a tile of chains are a cluster; its block k sums its share, one K-th, of
//            the chains' positions over all directions
//   memory   state is read from global memory, where the blocks have just written it; y is written once
//   sync     one cluster barrier, after the last step
//   needs    chain c of every direction visits the same positions: spatial_scan.cpp sees to it
//   cost     K * D values a position and chain from the cache, D to global memory
//
// The order of the sum is the directions', in float: equal input gives equal bits.
#pragma once

#include "resident.cuh"
#include "spatial_call.h"

namespace crnn {

template <typename R>
struct DirectionSum {
  using S = typename R::S;
  static constexpr int kTogether = 4;  // positions whose reads are under way at once

  const SpatialCall& call;
  const TileChains<R> chains;  // of the first direction: the walk of all blocks
  const Lines lines;

  CRNN_DEVICE explicit DirectionSum(const SpatialCall& c)
      : call(c), chains(c, Chains(c, 0, false), 0), lines(chains.dir) {}

  CRNN_DEVICE void run() const {
    device::cluster_barrier();
    const int64_t rank = device::block_y();
    const int from = int(chains.steps * rank / call.K), to = int(chains.steps * (rank + 1) / call.K);
    chains.template chunks<1>([&](int b, int, int channel, bool inside) {
      if (inside) sum(chains.first + b, channel, from, to);
    });
  }

  // Steps from .. to of one chain, kChunk channels of them.
  CRNN_DEVICE void sum(int chain, int channel, int from, int to) const {
    const int N = int(call.N), K = int(call.K), n = chain % N;
    const int64_t begin = chains.dir.origin + chain / N * chains.dir.line_stride;
    Walk walk{from / lines.length * int(chains.dir.line_stride) + from % lines.length * lines.step,
        from % lines.length};
    for (int t = from; t < to; t += kTogether) {
      int64_t position[kTogether];
      float total[kTogether][R::kChunk] = {};
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        position[i] = begin + walk.offset;
        if (t + i + 1 < to) walk.next(lines);
      }
      for (int k = 0; k < K; ++k) {
        device::Sixteen values[kTogether];
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
          values[i] = *reinterpret_cast<const device::Sixteen*>(
              static_cast<const S*>(call.state) + call.row(position[i], n, k) * call.D + channel);
#pragma unroll
        for (int i = 0; i < kTogether; ++i)
#pragma unroll
          for (int v = 0; v < R::kChunk; ++v) total[i][v] += value_of(values[i], v);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i)
        if (t + i < to) store((n * call.P + position[i]) * call.D + channel, total[i]);
    }
  }

  static CRNN_DEVICE float value_of(const device::Sixteen& values, int v) {
    constexpr int kWord = 4 / sizeof(S);
    return crnn::value_of<S>(values.word[v / kWord], v % kWord);
  }
  CRNN_DEVICE void store(int64_t element, const float (&total)[R::kChunk]) const {
    constexpr int kWord = 4 / sizeof(S);
    device::Sixteen values;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      S narrowed[kWord];
#pragma unroll
      for (int i = 0; i < kWord; ++i) narrowed[i] = narrow<S>(total[w * kWord + i] * call.scale);
      values.word[w] = word_of<S>(narrowed);
    }
    *reinterpret_cast<device::Sixteen*>(static_cast<S*>(call.y) + element) = values;
  }
};

}  // namespace crnn
