// scan_resident, forward: the whole scan of one direction by one block a tile of chains, W_hh held on chip.
//
//   work     block (x, y): chains x * kN .. of direction y of the launch; warp w: their units w * 16 * kI ..
//   memory   W_hh in registers (and shared memory), read once; z arrives by asynchronous copy kAhead steps
//            early; h in two shared tiles used in turn, which are also where results leave from;
//            what a cell carries stays in registers, in float; a masked cell's bits are made as h leaves
//   sync     one barrier a step: after it step t - 1's tile is complete, step t's z is there, and step
//            t - 2's tile is free. A cell of two phases needs one more, a normalised one too
//   needs    D <= kD, rows that begin at multiples of 16 bytes (scan_resident.cpp)
//   cost     gates * kD * kD * kN multiply-adds a block and step on the matrix units; each of z, state and
//            saved moved once
#pragma once

#include "resident_moments.cuh"

namespace crnn {

// The byte of a masked cell's row that the values from `channel` on begin: whether each is above 0. Four-byte
// values are half of it, and the next lane has the other half. Collective.
template <typename S>
CRNN_DEVICE unsigned signs(const device::Sixteen& values, int channel) {
  constexpr int kWord = 4 / sizeof(S);
  unsigned bits = 0;
#pragma unroll
  for (int v = 0; v < 4 * kWord; ++v)
    bits |= unsigned(value_of<S>(values.word[v / kWord], v % kWord) > 0) << v;
  if constexpr (sizeof(S) == 4) {
    bits <<= channel % 8;
    bits |= device::shuffle_xor(bits, 1);
  }
  return bits;
}

// What a step adds to the recurrent product: z, as it comes. (Or made here: resident_projection.cuh.)
template <typename R>
struct GivenInput {
  using Call = ForwardCall;
  static constexpr bool kProjects = false, kJoined = false;
  static constexpr int kRecurrentHeld = R::kHeld;  // tiles of W_hh in registers
  static constexpr int kParts = R::kG;             // of a row that arrives, `width` channels each
  static constexpr uint32_t kSharedBytes = 0;

  const int width;
  CRNN_DEVICE GivenInput(const Call& call, int, uint32_t) : width(int(call.D)) {}
  CRNN_DEVICE void begin(float (&z)[R::kG][R::kI][R::kJ][4], uint32_t tile, uint32_t pitch) const {
#pragma unroll
    for (int g = 0; g < R::kG; ++g)
#pragma unroll
      for (int i = 0; i < R::kI; ++i)
#pragma unroll
        for (int j = 0; j < R::kJ; ++j) load_places<R>(z[g][i][j], tile, pitch, g * R::kD, i, j);
  }
  CRNN_DEVICE void add(float (&)[R::kG][R::kI][R::kJ][4], uint32_t, uint32_t, int) const {}
};

template <typename R, typename Input = GivenInput<R>>
struct ResidentForward {
  using Cell = typename R::Cell;
  using S = typename R::S;
  static constexpr int kStates = Cell::kStates, kSaved = Cell::kSaved, kI = R::kI, kJ = R::kJ;
  static constexpr int kRing = 3, kAhead = kRing - 1;
  static constexpr bool kTwoPhases = R::kFirst < R::kG;
  // Where things lie in shared memory. A tile row holds the gates', states' or saved values' channels.
  static constexpr uint32_t kZPitch = R::pitch(Input::kParts * R::kD),
                            kStatePitch = R::pitch(kStates * R::kD);
  static constexpr uint32_t kSavedPitch = R::pitch(kSaved * R::kD), kOperandPitch = R::pitch(R::kD);
  static constexpr uint32_t kZTile = R::kN * kZPitch, kStateTile = R::kN * kStatePitch;
  static constexpr uint32_t kSavedTile = kSaved ? R::kN * kSavedPitch : 0;
  static constexpr uint32_t kZ = 0, kState = kZ + kRing * kZTile, kSavedAt = kState + 2 * kStateTile;
  static constexpr uint32_t kOperand = kSavedAt + 2 * kSavedTile;
  static constexpr uint32_t kMoments = kOperand + (kTwoPhases ? R::kN * kOperandPitch : 0);
  static constexpr uint32_t kTable = kMoments + (Cell::kNormalised ? R::kWarps * R::kN * 8 : 0);
  using MyWeights = Weights<R, Pass::kForward, Input::kRecurrentHeld>;
  static constexpr uint32_t kEnd = kTable + TileChains<R>::kSharedBytes;
  static constexpr uint32_t kWeights = kEnd > MyWeights::kStagingBytes ? kEnd : MyWeights::kStagingBytes;
  static constexpr uint32_t kInput = kWeights + MyWeights::kSharedBytes;
  static constexpr uint32_t kSharedBytes = kInput + Input::kSharedBytes;

  const ForwardCall& call;
  const TileChains<R> chains;
  const Lines lines;
  const MyWeights weights;
  const Input input;
  const Places<R> at;
  const int D;
  float carried[kStates][kI][kJ][4];  // the states, from step to step
  float kept[kSaved + 1][kI][kJ][4];  // saved values, between the phases
  float params[Cell::kParams + 1][kI][2];

  CRNN_DEVICE explicit ResidentForward(const typename Input::Call& c)
      : call(c),
        chains(c, false, kTable),
        lines(chains.dir),
        weights(c, chains.k, kWeights),
        input(c, chains.k, kInput),
        D(int(c.D)) {}

  CRNN_DEVICE void run() {
    if (chains.count <= 0) return;
    device::block_barrier();  // the weights are in place
    chains.fill(call.z);
    start();
    device::block_barrier();
    Walk ahead{}, now{}, behind{};
    uint32_t write = kZ, read = kZ;
    for (int t = 0; t < kAhead; ++t) fetch(t, ahead, write);
    for (int t = 0; t < chains.steps; ++t) {
      device::copy_async_wait<kAhead - 1>();
      device::block_barrier();
      fetch(t + kAhead, ahead, write);
      if (t > 0) send(t - 1, behind);
      step(t, now.offset, read);
      now.next(lines);
      read = read == kZ + kAhead * kZTile ? kZ : read + kZTile;
    }
    device::copy_async_wait<0>();
    device::block_barrier();
    send(chains.steps - 1, behind);
  }

  static CRNN_DEVICE uint32_t state_tile(int t) { return kState + (t & 1) * kStateTile; }
  static CRNN_DEVICE uint32_t saved_tile(int t) { return kSavedAt + (t & 1) * kSavedTile; }

  // The states before the first step, in registers and as the tile of "step -1".
  CRNN_DEVICE void start() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int p = 0; p < Cell::kParams; ++p)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int u = at.unit(i, half * 2);
          const auto* all = static_cast<const S*>(call.cell_params) + (chains.k * Cell::kParams + p) * D;
          params[p][i][half] = u < D ? widen<float>(all[u]) : 0.0f;
        }
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
#pragma unroll
        for (int s = 0; s < kStates; ++s)
#pragma unroll
          for (int e = 0; e < 4; ++e) carried[s][i][j][e] = initial(s, at.chain(j, e), at.unit(i, e));
        store_places<R>(carried[0][i][j], state_tile(-1), kStatePitch, 0, i, j);
      }
    }
  }
  CRNN_DEVICE float initial(int s, int b, int u) const {
    if (!call.initial || !chains.has(b) || u >= D) return 0;
    const int64_t n = (chains.first + b) % call.N;
    return widen<float>(static_cast<const S*>(call.initial)[call.initial_at(s, n, chains.k) + u]);
  }

  // Starts to copy z of step t to the tile `to` and moves both on.
  CRNN_DEVICE void fetch(int t, Walk& walk, uint32_t& to) {
    if (t < chains.steps) {
      const S* z = static_cast<const S*>(call.z.data) + int64_t(walk.offset) * call.z.p;
      chains.template chunks<Input::kParts>([&](int b, int part, int channel, bool) {
        device::copy_async(to + b * kZPitch + (part * R::kD + channel) * sizeof(S),
            z + chains.strided(b) + part * input.width + channel, chains.has(b) && channel < input.width);
      });
      walk.next(lines);
      to = to == kZ + kAhead * kZTile ? kZ : to + kZTile;
    }
    device::copy_async_commit();
  }

  // Step t's tiles to global memory.
  CRNN_DEVICE void send(int t, Walk& walk) {
    const auto out = [&](void* to, int64_t element, uint32_t from) {
      const auto values = device::load_shared<device::Sixteen>(from);
      *reinterpret_cast<device::Sixteen*>(static_cast<S*>(to) + element) = values;
      return values;
    };
    chains.template chunks<kStates>([&](int b, int s, int channel, bool inside) {
      device::Sixteen values{};
      const int64_t row = chains.row(b, walk.offset);
      if (inside)
        values = out(call.state, s * call.plane() + row * D + channel,
            state_tile(t) + b * kStatePitch + (s * R::kD + channel) * sizeof(S));
      if constexpr (Cell::kMasked) {
        const unsigned bits = signs<S>(values, channel);
        if (inside && channel % 8 == 0)
          static_cast<unsigned char*>(call.saved)[row * mask_bytes(D) + channel / 8] =
              static_cast<unsigned char>(bits);
      }
    });
    if constexpr (kSaved > 0)
      chains.template chunks<kSaved>([&](int b, int i, int channel, bool inside) {
        if (inside)
          out(call.saved, (chains.row(b, walk.offset) * kSaved + i) * D + channel,
              saved_tile(t) + b * kSavedPitch + (i * R::kD + channel) * sizeof(S));
      });
    walk.next(lines);
  }

  // rec[g] of gates [kFrom, kTo) = their matrices, without diagonal, times the rows of `tile`. beside(k):
  // other products of inner steps k and k + 1, for the matrix units to do in between.
  template <int kFrom, int kTo, typename Beside>
  CRNN_DEVICE void product(
      float (&rec)[R::kG][kI][kJ][4], uint32_t tile, uint32_t pitch, Beside&& beside) const {
#pragma unroll
    for (int k = 0; k < R::kK; k += 2) {
      beside(k);
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        uint32_t b[4];
        load_operands<R>(b, tile, pitch, j, k);
#pragma unroll
        for (int g = kFrom; g < kTo; ++g)
#pragma unroll
          for (int i = 0; i < kI; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              uint32_t a[4];
              weights.get(g, i, k + half, a);
              multiply_as<R>(rec[g][i][j], a, b[half * 2], b[half * 2 + 1]);
            }
      }
    }
  }

  CRNN_DEVICE void step(int t, int offset, uint32_t z_tile) {
    float z[R::kG][kI][kJ][4], rec[R::kG][kI][kJ][4] = {}, operand[kI][kJ][4];
    input.begin(z, z_tile, kZPitch);
    if (Input::kProjects || t > 0 || call.initial)
      product<0, R::kFirst>(Input::kJoined ? z : rec, state_tile(t - 1), kStatePitch,
          [&](int k) { input.add(z, z_tile, kZPitch, k); });
    if (call.cont) keep(rec, offset);
#pragma unroll
    for (int g = 0; g < R::kFirst; ++g) add_diagonal(rec[g], g, carried[0]);
    if constexpr (kTwoPhases) {
      first_phase(z, rec, operand);
      device::block_barrier();
      product<R::kFirst, R::kG>(rec, kOperand, kOperandPitch, [](int) {});
#pragma unroll
      for (int g = R::kFirst; g < R::kG; ++g) add_diagonal(rec[g], g, operand);
    }
    if constexpr (Cell::kNormalised) normalise(z[0], rec[0]);
    finish(t, z, rec);
  }

  // cont at this step scales what is carried into it, and so the products with it.
  CRNN_DEVICE void keep(float (&rec)[R::kG][kI][kJ][4], int offset) {
#pragma unroll
    for (int j = 0; j < kJ; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int64_t cell = chains.cell(at.chain(j, e)) + int64_t(offset) * call.N;
        const float keep = widen<float>(static_cast<const S*>(call.cont)[cell]);
#pragma unroll
        for (int i = 0; i < kI; ++i) {
#pragma unroll
          for (int g = 0; g < R::kFirst; ++g) rec[g][i][j][e] *= keep;
#pragma unroll
          for (int s = 0; s < kStates; ++s) carried[s][i][j][e] *= keep;
        }
      }
  }

  CRNN_DEVICE void add_diagonal(float (&rec)[kI][kJ][4], int g, const float (&v)[kI][kJ][4]) const {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) rec[i][j][e] += weights.diagonal[g][i][e / 2] * v[i][j][e];
  }

  // visit(i, j, e) for the thread's places, then done(i, j) for each tile.
  template <typename Visit, typename Done>
  static CRNN_DEVICE void places(Visit&& visit, Done&& done) {
#pragma unroll
    for (int i = 0; i < kI; ++i)
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) visit(i, j, e);
        done(i, j);
      }
  }

  CRNN_DEVICE void first_phase(
      const float (&z)[R::kG][kI][kJ][4], const float (&rec)[R::kG][kI][kJ][4], float (&operand)[kI][kJ][4]) {
    places(
        [&](int i, int j, int e) {
          float x[R::kG], r[R::kG], saved[kSaved + 1];
#pragma unroll
          for (int g = 0; g < R::kFirst; ++g) x[g] = z[g][i][j][e], r[g] = rec[g][i][j][e];
          if constexpr (kTwoPhases)
            operand[i][j][e] =
                Cell::operand(Forward<float>{x, r, &carried[0][i][j][e], nullptr, nullptr, saved});
#pragma unroll
          for (int n = 0; n < R::kFirst; ++n) kept[n][i][j][e] = saved[n];
        },
        [&](int i, int j) { store_places<R>(operand[i][j], kOperand, kOperandPitch, 0, i, j); });
  }

  CRNN_DEVICE void finish(int t, const float (&z)[R::kG][kI][kJ][4], const float (&rec)[R::kG][kI][kJ][4]) {
    places(
        [&](int i, int j, int e) {
          float x[R::kG], r[R::kG], prev[kStates], p[Cell::kParams + 1], now[kStates], saved[kSaved + 1];
#pragma unroll
          for (int g = 0; g < R::kG; ++g) x[g] = z[g][i][j][e], r[g] = rec[g][i][j][e];
#pragma unroll
          for (int s = 0; s < kStates; ++s) prev[s] = carried[s][i][j][e];
#pragma unroll
          for (int n = 0; n < Cell::kParams; ++n) p[n] = params[n][i][e / 2];
#pragma unroll
          for (int n = 0; n < kSaved; ++n) saved[n] = kept[n][i][j][e];
          Cell::forward(Forward<float>{x, r, prev, p, now, saved});
#pragma unroll
          for (int s = 0; s < kStates; ++s) carried[s][i][j][e] = now[s];
#pragma unroll
          for (int n = 0; n < kSaved; ++n) kept[n][i][j][e] = saved[n];
        },
        [&](int i, int j) {
#pragma unroll
          for (int s = 0; s < kStates; ++s)
            store_places<R>(carried[s][i][j], state_tile(t), kStatePitch, s * R::kD, i, j);
#pragma unroll
          for (int n = 0; n < kSaved; ++n)
            store_places<R>(kept[n][i][j], saved_tile(t), kSavedPitch, n * R::kD, i, j);
        });
  }

  // a = z + rec is saved; z becomes the normalised value, rec 0.
  CRNN_DEVICE void normalise(float (&z)[kI][kJ][4], float (&rec)[kI][kJ][4]) {
    places(
        [&](int i, int j, int e) {
          kept[0][i][j][e] = z[i][j][e] + rec[i][j][e];
          rec[i][j][e] = 0;
        },
        [](int, int) {});
    float mean[kJ][2], scale[kJ][2];
    moments<R>(kept[0], D, kMoments, mean, scale);
    places([&](int i, int j, int e) { z[i][j][e] = (kept[0][i][j][e] - mean[j][e % 2]) * scale[j][e % 2]; },
        [](int, int) {});
  }
};

template <typename R>
CRNN_KERNEL(R::kThreads, 1)
resident_forward(CRNN_ARGUMENT ForwardCall call) {
  ResidentForward<R>(call).run();
}

}  // namespace crnn
