// scan_resident, backward: the scan in reverse with W_hh^T, one block a tile of chains through all its steps.
// Where the gradient is cut (carry_value, reset) each line is a chain of its own, so there are many.
//
//   work     as forward (resident_forward.cuh); a thread holds the same units and chains
//   memory   W_hh^T in registers (and shared memory); dstate, states and saved values arrive by asynchronous
//            copy kAhead steps early; dz in two shared tiles used in turn, which are the next product's
//            operand and where dz leaves from; the carried gradient stays in registers, in float
//   sync     one barrier a step; a cell of two phases needs one more, a normalised one two more
//   needs    as forward
//   cost     gates * kD * kD * kN multiply-adds a block and step on the matrix units; each of dstate, the
//            values read and dz moved once
#pragma once

#include "resident_moments.cuh"

namespace crnn {

template <typename R>
struct ResidentBackward {
  using Cell = typename R::Cell;
  using S = typename R::S;
  static constexpr int kStates = Cell::kStates, kSaved = Cell::kSaved, kI = R::kI, kJ = R::kJ;
  static constexpr int kRing = 3, kAhead = kRing - 1;
  static constexpr bool kTwoPhases = R::kFirst < R::kG;
  // The parts of a row that arrives: dstate of each state, then the states and previous states that the cell
  // reads, then saved values.
  static constexpr int count(unsigned bits) { return bits == 0 ? 0 : int(bits & 1) + count(bits >> 1); }
  static constexpr unsigned kReadsState = Cell::kMasked ? 0 : Cell::kReadsState;
  static constexpr int kNowAt = kStates, kPrevAt = kNowAt + count(kReadsState);
  static constexpr int kSavedAt = kPrevAt + count(Cell::kReadsPrev), kParts = kSavedAt + kSaved;
  static constexpr uint32_t kInPitch = R::pitch(kParts * R::kD), kDzPitch = R::pitch(R::kG * R::kD);
  // A masked cell's bits follow the rows: an odd multiple of 16 bytes a chain, as R::pitch.
  static constexpr uint32_t kMaskRow = Cell::kMasked ? (R::kD + 127) / 128 * 16 : 0;
  static constexpr uint32_t kMaskPitch = Cell::kMasked ? kMaskRow / 32 * 32 + 16 : 0;
  static constexpr uint32_t kMask = R::kN * kInPitch;
  static constexpr uint32_t kInTile = kMask + R::kN * kMaskPitch, kDzTile = R::kN * kDzPitch;
  static constexpr uint32_t kIn = 0, kDz = kIn + kRing * kInTile, kMoments = kDz + 2 * kDzTile;
  static constexpr uint32_t kMomentBytes = Cell::kNormalised ? R::kWarps * R::kN * 8 : 0;
  static constexpr uint32_t kTable = kMoments + 2 * kMomentBytes;
  using MyWeights = Weights<R, Pass::kBackward>;
  static constexpr uint32_t kEnd = kTable + TileChains<R>::kSharedBytes;
  static constexpr uint32_t kWeights = kEnd > MyWeights::kStagingBytes ? kEnd : MyWeights::kStagingBytes;
  static constexpr uint32_t kSharedBytes = kWeights + MyWeights::kSharedBytes;

  const BackwardCall& call;
  const TileChains<R> chains;
  const Lines lines;
  const MyWeights weights;
  const Places<R> at;
  const int D;
  float carry[kStates][kI][kJ][4];  // the gradient of the states, from the steps after
  float keep[kJ][2];                // cont of the step that was done last
  float params[Cell::kParams + 1][kI][2];
  float dparams[Cell::kParams + 1][kI][2];  // this thread's share

  CRNN_DEVICE explicit ResidentBackward(const BackwardCall& c)
      : call(c), chains(c, true, kTable), lines(chains.dir), weights(c, chains.k, kWeights), D(int(c.D)) {}

  CRNN_DEVICE void run() {
    if (chains.count <= 0) return;
    device::block_barrier();  // the weights are in place
    chains.fill(call.dstate);
    start();
    device::block_barrier();
    const int last = chains.steps - 1;
    const Walk end{last / lines.length * int(chains.dir.line_stride) + last % lines.length * lines.step,
        last % lines.length};
    Walk ahead = end, now = end, behind = end;
    uint32_t write = kIn, read = kIn;
    for (int t = last; t > last - kAhead; --t) fetch(t, ahead, write);
    for (int t = last; t >= 0; --t) {
      device::copy_async_wait<kAhead - 1>();
      device::block_barrier();
      fetch(t - kAhead, ahead, write);
      if (t < last) {
        send(t + 1, behind);
        through_product(t + 1);
      }
      step(t, now.offset, read);
      now.back(lines);
      read = read == kIn + kAhead * kInTile ? kIn : read + kInTile;
    }
    device::copy_async_wait<0>();
    device::block_barrier();
    send(0, behind);
    if (call.dstart) {
      through_product(0);
      store_start();
    }
    if constexpr (Cell::kParams > 0) store_shares();
  }

  static CRNN_DEVICE uint32_t dz_tile(int t) { return kDz + (t & 1) * kDzTile; }

  CRNN_DEVICE void start() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int p = 0; p < Cell::kParams; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int u = at.unit(i, half * 2);
          const auto* all = static_cast<const S*>(call.cell_params) + (chains.k * Cell::kParams + p) * D;
          params[p][i][half] = u < D ? widen<float>(all[u]) : 0.0f, dparams[p][i][half] = 0;
        }
#pragma unroll
      for (int s = 0; s < kStates; ++s)
#pragma unroll
        for (int j = 0; j < kJ; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) carry[s][i][j][e] = 0;
    }
#pragma unroll
    for (int j = 0; j < kJ; ++j) keep[j][0] = keep[j][1] = 1;
  }

  // Starts to copy the rows of step t to the tile `to` and moves both on.
  CRNN_DEVICE void fetch(int t, Walk& walk, uint32_t& to) {
    if (t >= 0) {
      Walk before = walk;
      before.back(lines);  // for t = 0: the last step of the line before
      chains.template chunks<kParts>([&](int b, int part, int channel, bool inside) {
        bool there = inside;
        const S* from = source(b, part, walk.offset, before.offset, t, there) + channel;
        device::copy_async(to + b * kInPitch + (part * R::kD + channel) * sizeof(S), from, there);
      });
      if constexpr (Cell::kMasked) fetch_mask(walk.offset, to + kMask);
      walk.back(lines);
      to = to == kIn + kAhead * kInTile ? kIn : to + kInTile;
    }
    device::copy_async_commit();
  }

  CRNN_DEVICE void fetch_mask(int offset, uint32_t to) const {
    constexpr int kRow = kMaskRow / 16;
    for (int at = device::thread(); at < R::kN * kRow; at += R::kThreads) {
      const int b = at / kRow, part = at % kRow;
      const auto* from =
          static_cast<const unsigned char*>(call.saved) + chains.row(b, offset) * mask_bytes(D) + part * 16;
      device::copy_async(to + b * kMaskPitch + part * 16, from, chains.has(b) && part * 128 < D);
    }
  }

  // The row of `part` for chain b; `there` becomes false where it is zero.
  CRNN_DEVICE const S* source(int b, int part, int offset, int before, int t, bool& there) const {
    if (part < kNowAt)
      return static_cast<const S*>(call.dstate.data) + chains.strided(b) + offset * call.dstate.p +
             part * call.dstate_plane;
    if (part >= kSavedAt)
      return static_cast<const S*>(call.saved) +
             (chains.row(b, offset) * kSaved + (part - kSavedAt)) * int64_t(D);
    const S* state = static_cast<const S*>(call.state);
    if (part < kPrevAt)
      return state + nth(kReadsState, part - kNowAt) * call.plane() + chains.row(b, offset) * D;
    const int j = nth(Cell::kReadsPrev, part - kPrevAt);
    const int64_t chain = chains.first + b;
    if (chains.dir.value_crosses(chain / call.N * chains.steps + t))
      return state + j * call.plane() + chains.row(b, before) * D;
    there &= call.initial != nullptr;
    return there ? static_cast<const S*>(call.initial) + call.initial_at(j, chain % call.N, chains.k) : state;
  }
  // The place of the n-th one among the bits.
  static CRNN_DEVICE int nth(unsigned bits, int n) {
    int j = 0;
    for (;; ++j)
      if (bits >> j & 1 && n-- == 0) return j;
  }

  CRNN_DEVICE void send(int t, Walk& walk) {
    chains.template chunks<R::kG>([&](int b, int gate, int channel, bool inside) {
      S* to = static_cast<S*>(call.dz) + (chains.row(b, walk.offset) * R::kG + gate) * D + channel;
      if (inside)
        *reinterpret_cast<device::Sixteen*>(to) = device::load_shared<device::Sixteen>(
            dz_tile(t) + b * kDzPitch + (gate * R::kD + channel) * sizeof(S));
    });
    walk.back(lines);
  }

  // sum += the matrices of gates [kFrom, kTo), transposed and without diagonal, times their part of `tile`.
  template <int kFrom, int kTo>
  CRNN_DEVICE void product(float (&sum)[kI][kJ][4], uint32_t tile) const {
#pragma unroll
    for (int g = kFrom; g < kTo; ++g)
#pragma unroll
      for (int k = 0; k < R::kK; k += 2)
#pragma unroll
        for (int j = 0; j < kJ; ++j) {
          uint32_t b[4];
          load_operands<R>(b, tile + g * R::kD * sizeof(S), kDzPitch, j, k);
#pragma unroll
          for (int i = 0; i < kI; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              uint32_t a[4];
              weights.get(g, i, k + half, a);
              multiply_as<R>(sum[i][j], a, b[half * 2], b[half * 2 + 1]);
            }
        }
  }

  // From step t, whose dz is complete, to what it hands to the step before.
  CRNN_DEVICE void through_product(int t) {
    float share[kI][kJ][4] = {};
    product<0, R::kFirst>(share, dz_tile(t));
    places([&](int i, int j, int e) {
      carry[0][i][j][e] += share[i][j][e];
#pragma unroll
      for (int s = 0; s < kStates; ++s) carry[s][i][j][e] *= keep[j][e % 2];
    });
  }

  template <typename Visit>
  static CRNN_DEVICE void places(Visit&& visit) {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) visit(i, j, e);
  }

  // One step's values in the thread's places.
  struct Values {
    float dstate[kStates][kI][kJ][4], state[kStates][kI][kJ][4], prev[kStates][kI][kJ][4];
    float saved[kSaved + 1][kI][kJ][4], dgate[R::kG][kI][kJ][4];
  };

  CRNN_DEVICE void step(int t, int offset, uint32_t tile) {
    Values v;
    read_keep(offset);
    load(v, tile);
    float mean[kJ][2], scale[kJ][2];
    if constexpr (Cell::kNormalised) {
      moments<R>(v.saved[0], D, kMoments, mean, scale);
      places([&](int i, int j, int e) {
        v.saved[0][i][j][e] = (v.saved[0][i][j][e] - mean[j][e % 2]) * scale[j][e % 2];
      });
    }
    places([&](int i, int j, int e) { begin(v, i, j, e); });
    if constexpr (Cell::kNormalised) through_norm(v, scale);
    if constexpr (kTwoPhases) {
      store_gates<R::kFirst, R::kG>(v, t);
      device::block_barrier();
      float share[kI][kJ][4] = {};
      product<R::kFirst, R::kG>(share, dz_tile(t));
      places([&](int i, int j, int e) { first_phase(v, share, i, j, e); });
    }
    store_gates<0, R::kFirst>(v, t);
    places([&](int i, int j, int e) {
#pragma unroll
      for (int g = 0; g < R::kFirst; ++g)
        carry[0][i][j][e] += weights.diagonal[g][i][e / 2] * v.dgate[g][i][j][e];
    });
  }

  CRNN_DEVICE void read_keep(int offset) {
    if (!call.cont) return;
#pragma unroll
    for (int j = 0; j < kJ; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        keep[j][c] = widen<float>(
            static_cast<const S*>(call.cont)[chains.cell(at.chain(j, c)) + int64_t(offset) * call.N]);
  }

  CRNN_DEVICE void load(Values& v, uint32_t tile) const {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        int part = 0;
        const auto next = [&](float (&to)[4]) { load_places<R>(to, tile, kInPitch, part++ * R::kD, i, j); };
#pragma unroll
        for (int s = 0; s < kStates; ++s) next(v.dstate[s][i][j]);
#pragma unroll
        for (int s = 0; s < kStates; ++s)
          if (kReadsState >> s & 1) next(v.state[s][i][j]);
#pragma unroll
        for (int s = 0; s < kStates; ++s)
          if (Cell::kReadsPrev >> s & 1) next(v.prev[s][i][j]);
#pragma unroll
        for (int n = 0; n < kSaved; ++n) next(v.saved[n][i][j]);
        if constexpr (Cell::kMasked) load_mask(v.state[0][i][j], tile + kMask, i, j);
      }
  }
  CRNN_DEVICE void load_mask(float (&v)[4], uint32_t mask, int i, int j) const {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const auto bits =
          device::load_shared<uint16_t>(mask + at.chain(j, e) * kMaskPitch + (at.first_unit + i * 16) / 8);
      v[e] = float(bits >> (at.lane / 4 + e / 2 * 8) & 1);
    }
  }

  CRNN_DEVICE void begin(Values& v, int i, int j, int e) {
    float now[kStates], prev[kStates], saved[kSaved + 1], p[Cell::kParams + 1];
    float ds[kStates], dgate[R::kG] = {}, dprev[kStates] = {}, dp[Cell::kParams + 1];
#pragma unroll
    for (int s = 0; s < kStates; ++s) {
      now[s] = (Cell::kMasked || kReadsState >> s & 1) ? v.state[s][i][j][e] : 0;
      prev[s] = Cell::kReadsPrev >> s & 1 ? v.prev[s][i][j][e] * keep[j][e % 2] : 0;
      ds[s] = carry[s][i][j][e] + v.dstate[s][i][j][e];
    }
#pragma unroll
    for (int n = 0; n < kSaved; ++n) saved[n] = v.saved[n][i][j][e];
#pragma unroll
    for (int n = 0; n < Cell::kParams; ++n) p[n] = params[n][i][e / 2];
    Cell::backward(Backward<float>{now, prev, saved, p, ds, dgate, dprev, dp});
#pragma unroll
    for (int g = 0; g < R::kG; ++g) v.dgate[g][i][j][e] = dgate[g];
#pragma unroll
    for (int s = 0; s < kStates; ++s) carry[s][i][j][e] = dprev[s];
#pragma unroll
    for (int n = 0; n < Cell::kParams; ++n)  // a chain that is not there has no gradient
      dparams[n][i][e / 2] += chains.has(at.chain(j, e)) ? dp[n] : 0;
  }

  // dgate[0], the gradient of the normalised value saved[0] = (a - mean) * scale, becomes that of a.
  CRNN_DEVICE void through_norm(Values& v, const float (&scale)[kJ][2]) {
    Pair mine[kJ][2], sums[kJ][2];
#pragma unroll
    for (int j = 0; j < kJ; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        float sum = 0, along = 0;
#pragma unroll
        for (int i = 0; i < kI; ++i)
#pragma unroll
          for (int e = c; e < 4; e += 2)
            sum += v.dgate[0][i][j][e], along += v.dgate[0][i][j][e] * v.saved[0][i][j][e];
        mine[j][c] = {sum_of_lanes(sum), sum_of_lanes(along)};
        sums[j][c] = {0, 0};
      }
    exchange<R>(mine, kMoments + kMomentBytes, [&](int, int j, int c, Pair other) {
      sums[j][c].first += other.first, sums[j][c].second += other.second;
    });
    places([&](int i, int j, int e) {
      const Pair s = sums[j][e % 2];
      float& d = v.dgate[0][i][j][e];
      d = scale[j][e % 2] * (d - (s.first + v.saved[0][i][j][e] * s.second) / float(D));
      if (at.unit(i, e) >= D) d = 0;
    });
  }

  CRNN_DEVICE void first_phase(Values& v, const float (&share)[kI][kJ][4], int i, int j, int e) {
    float saved[kSaved + 1], dgate[R::kG], prev = v.prev[0][i][j][e] * keep[j][e % 2],
                                           doperand = share[i][j][e];
#pragma unroll
    for (int n = 0; n < kSaved; ++n) saved[n] = v.saved[n][i][j][e];
#pragma unroll
    for (int g = 0; g < R::kG; ++g) dgate[g] = v.dgate[g][i][j][e];
#pragma unroll
    for (int g = R::kFirst; g < R::kG; ++g) doperand += weights.diagonal[g][i][e / 2] * dgate[g];
    if constexpr (kTwoPhases)
      Cell::backward_operand(
          Backward<float>{nullptr, &prev, saved, nullptr, nullptr, dgate, &carry[0][i][j][e], nullptr},
          doperand);
#pragma unroll
    for (int g = 0; g < R::kFirst; ++g) v.dgate[g][i][j][e] = dgate[g];
  }

  template <int kFrom, int kTo>
  CRNN_DEVICE void store_gates(const Values& v, int t) const {
#pragma unroll
    for (int g = kFrom; g < kTo; ++g)
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) store_places<R>(v.dgate[g][i][j], dz_tile(t), kDzPitch, g * R::kD, i, j);
  }

  // Only segments that start from `initial` have a share in its gradient.
  CRNN_DEVICE void store_start() const {
    const int64_t states = call.N * call.K * D * kStates;
    places([&](int i, int j, int e) {
      const int64_t chain = chains.first + at.chain(j, e), segment = chain / call.N;
      if (!chains.has(at.chain(j, e)) || at.unit(i, e) >= D) return;
      if (chains.dir.value_crosses(segment * chains.steps)) return;
#pragma unroll
      for (int s = 0; s < kStates; ++s) {
        const int64_t to = segment * states + call.initial_at(s, chain % call.N, chains.k) + at.unit(i, e);
        static_cast<S*>(call.dstart)[to] = narrow<S>(carry[s][i][j][e]);
      }
    });
  }

  // This tile's share in the gradient of cell_params: summed over the four lanes that hold a unit.
  CRNN_DEVICE void store_shares() const {
    float* to = static_cast<float*>(call.dshares) +
                (int64_t(chains.k) * call.tiles + device::block_x()) * Cell::kParams * D;
#pragma unroll
    for (int n = 0; n < Cell::kParams; ++n)
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float sum = dparams[n][i][half];
          sum += device::shuffle_xor(sum, 1);
          sum += device::shuffle_xor(sum, 2);
          const int u = at.unit(i, half * 2);
          if (at.lane % 4 == 0 && u < D) to[n * D + u] = sum;
        }
  }
};

template <typename R>
CRNN_KERNEL(R::kThreads, 1)
resident_backward(CRNN_ARGUMENT BackwardCall call) {
  ResidentBackward<R>(call).run();
}

}  // namespace crnn
