// lrn_spans: normalisation across channels for the nets that have it: beta 0.75, windows of 3 or 5.
//
//   work     a thread: kSpan channels at one position, with the channels around them that their windows
//   reach.
//            Planes (NCHW): the lanes of a warp are positions, the warps of a block neighbouring spans;
//            rows (channels_last): the lanes are neighbouring spans
//   memory   everything in registers; what two threads read comes from memory once and then from the
//            first-level cache
//   sync     none
//   needs    rows: channels at multiples of 16 bytes
//   cost     forward reads x, writes y; backward reads x and dy, writes dx; powers of 2 kHalf channels more
#pragma once

#include "../core/lrn_power.h"
#include "device.cuh"
#include "lrn_call.h"

namespace crnn {

constexpr int kLrnThreads = 256, kLrnPlaneSpan = 16, kLrnRowSpan = 8;

// Where a thread works: channel `first` at the position whose channel 0 lies at `base`.
struct LrnPlace {
  int64_t base, first, stride;
};

CRNN_DEVICE LrnPlace lrn_place(const LrnCall& c, bool& inside) {
  const int64_t P = c.H * c.W;
  if (c.channels_last) {
    const int64_t spans = (c.C + kLrnRowSpan - 1) / kLrnRowSpan;
    const int64_t at = int64_t(device::block_x()) * kLrnThreads + device::thread();
    inside = at < c.N * P * spans;
    return {at / spans * c.C, at % spans * kLrnRowSpan, 1};
  }
  const int64_t at = int64_t(device::block_x()) * 32 + device::lane();
  const int64_t first =
      (device::block_y() * (device::threads() / 32) + device::warp()) * int64_t(kLrnPlaneSpan);
  inside = at < c.N * P && first < c.C;
  return {at / P * c.C * P + at % P, first, P};
}

// Channels first - kBefore, ... of `from`; zeros beyond the ends.
template <int kBefore, int kCount, typename T, typename S>
CRNN_DEVICE void load_planes(const LrnCall& c, const LrnPlace& at, const void* from, T (&values)[kCount]) {
  const S* data = static_cast<const S*>(from) + at.base;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int64_t channel = at.first - kBefore + i;
    values[i] = channel >= 0 && channel < c.C ? widen<T>(data[channel * at.stride]) : T(0);
  }
}

// The same, 16 bytes at a time.
template <int kBefore, int kCount, typename T, typename S>
CRNN_DEVICE void load_rows(const LrnCall& c, const LrnPlace& at, const void* from, T (&values)[kCount]) {
  constexpr int kLanes = 16 / sizeof(S), kSkipped = (kLanes - kBefore % kLanes) % kLanes;
  const S* data = static_cast<const S*>(from) + at.base;
#pragma unroll
  for (int i = 0; i < kCount + kSkipped; i += kLanes) {
    const int64_t channel = at.first - kBefore - kSkipped + i;
    device::Sixteen bytes{};
    if (channel >= 0 && channel < c.C) bytes = *reinterpret_cast<const device::Sixteen*>(data + channel);
    S lanes[kLanes];
    __builtin_memcpy(lanes, &bytes, 16);
#pragma unroll
    for (int l = 0; l < kLanes; ++l)
      if (i + l >= kSkipped && i + l - kSkipped < kCount) values[i + l - kSkipped] = widen<T>(lanes[l]);
  }
}

template <int kCount, typename T, typename S>
CRNN_DEVICE void store_planes(const LrnCall& c, const LrnPlace& at, const T (&values)[kCount]) {
  S* data = static_cast<S*>(c.out) + at.base;
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    if (at.first + i < c.C) data[(at.first + i) * at.stride] = narrow<S>(values[i]);
}

template <int kCount, typename T, typename S>
CRNN_DEVICE void store_rows(const LrnCall& c, const LrnPlace& at, const T (&values)[kCount]) {
  constexpr int kLanes = 16 / sizeof(S);
  S* data = static_cast<S*>(c.out) + at.base + at.first;
#pragma unroll
  for (int i = 0; i < kCount; i += kLanes) {
    if (at.first + i >= c.C) break;
    S lanes[kLanes];
#pragma unroll
    for (int l = 0; l < kLanes; ++l) lanes[l] = narrow<S>(values[i + l]);
    device::Sixteen bytes;
    __builtin_memcpy(&bytes, lanes, 16);
    *reinterpret_cast<device::Sixteen*>(data + i) = bytes;
  }
}

// The memory of a span: planes or rows.
template <bool kRows, int kBefore, int kCount, typename T, typename S>
CRNN_DEVICE void load(const LrnCall& c, const LrnPlace& at, const void* from, T (&values)[kCount]) {
  if constexpr (kRows) {
    load_rows<kBefore, kCount, T, S>(c, at, from, values);
  } else {
    load_planes<kBefore, kCount, T, S>(c, at, from, values);
  }
}
template <bool kRows, int kCount, typename T, typename S>
CRNN_DEVICE void store(const LrnCall& c, const LrnPlace& at, const T (&values)[kCount]) {
  if constexpr (kRows) {
    store_rows<kCount, T, S>(c, at, values);
  } else {
    store_planes<kCount, T, S>(c, at, values);
  }
}

// s^-0.75 and s^-1.75 of the channel in the middle of values[first .. first + 2 kHalf].
template <int kHalf, typename T>
CRNN_DEVICE LrnPower<T> power_at(const LrnCall& c, const T* values, int first) {
  T sum = 0;
#pragma unroll
  for (int i = 0; i <= 2 * kHalf; ++i) sum += values[first + i] * values[first + i];
  return lrn_power<true>(T(c.k) + T(c.share) * sum, T(0.75));
}

template <typename S, int kHalf, bool kRows>
CRNN_KERNEL(kLrnThreads, 1)
lrn_spans_forward(LrnCall c) {
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  constexpr int kSpan = kRows ? kLrnRowSpan : kLrnPlaneSpan;
  bool inside;
  const LrnPlace at = lrn_place(c, inside);
  if (!inside) return;
  T x[kSpan + 2 * kHalf], y[kSpan];
  load<kRows, kHalf, kSpan + 2 * kHalf, T, S>(c, at, c.x, x);
#pragma unroll
  for (int i = 0; i < kSpan; ++i) y[i] = x[kHalf + i] * power_at<kHalf>(c, x, i).factor;
  store<kRows, kSpan, T, S>(c, at, y);
}

// ratio = dy x s^-1.75; dx = dy s^-0.75 - 2 share 0.75 x (sum of ratio over the window)
template <typename S, int kHalf, bool kRows>
CRNN_KERNEL(kLrnThreads, 1)
lrn_spans_backward(LrnCall c) {
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  constexpr int kSpan = kRows ? kLrnRowSpan : kLrnPlaneSpan;
  bool inside;
  const LrnPlace at = lrn_place(c, inside);
  if (!inside) return;
  T x[kSpan + 4 * kHalf], dy[kSpan + 2 * kHalf], ratio[kSpan + 2 * kHalf];
  load<kRows, 2 * kHalf, kSpan + 4 * kHalf, T, S>(c, at, c.x, x);
  load<kRows, kHalf, kSpan + 2 * kHalf, T, S>(c, at, c.dy, dy);
#pragma unroll
  for (int i = 0; i < kSpan + 2 * kHalf; ++i) {
    const LrnPower<T> power = power_at<kHalf>(c, x, i);
    const int64_t channel = at.first - kHalf + i;  // beyond the ends s may be zero
    ratio[i] = channel >= 0 && channel < c.C ? dy[i] * x[kHalf + i] * power.slope : T(0);
    dy[i] *= power.factor;
  }
  const T twice = T(1.5) * T(c.share);
  T dx[kSpan];
#pragma unroll
  for (int i = 0; i < kSpan; ++i) {
    T sum = 0;
#pragma unroll
    for (int j = 0; j <= 2 * kHalf; ++j) sum += ratio[i + j];
    dx[i] = dy[kHalf + i] - twice * x[2 * kHalf + i] * sum;
  }
  store<kRows, kSpan, T, S>(c, at, dx);
}

}  // namespace crnn
