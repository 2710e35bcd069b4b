// Work for torch's threads in equal shares, of which the first to finish help the others: cores are seldom
// equally fast, or free; but what a thread did in the last call may still be in its cache.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

namespace crnn {

// Items 0 .. count - 1: a thread calls start() once, and what that returns with one item after the other.
template <typename Start>
void share_out(int64_t count, Start&& start) {
  struct alignas(64) Share {
    std::atomic<int64_t> next;
    int64_t end;
  };
  const int64_t threads = std::max<int64_t>(1, std::min<int64_t>(count, torch::stable::get_num_threads()));
  std::vector<Share> shares(threads);
  for (int64_t t = 0; t < threads; ++t)
    shares[t].next = count * t / threads, shares[t].end = count * (t + 1) / threads;
  torch::stable::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    auto&& item = start();
    for (int64_t t = begin; t < begin + threads; ++t) {
      Share& share = shares[t % threads];
      for (int64_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) item(i);
    }
  });
}

}  // namespace crnn
