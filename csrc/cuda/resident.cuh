// What the resident scans share: their sizes, W_hh in registers, and tiles of rows in shared memory.
//
// A block takes kN chains of one direction. Warp w owns units w * 16 * kI ..: their rows of every gate's
// matrix are the A operand of the matrix products, the chains are its N dimension. So a thread holds, of all
// gates and states, the same places: element e of tiles (i, j) is unit unit(i, e), chain chain(j, e).
//
// The diagonal of each gate's matrix is kept apart, in float, and multiplied with the state in float: where
// W_hh is near the identity and chains are long, this keeps the state's own rounding out of the recurrence
// (design: with W_hh = 0.98 I + noise over 1024 steps, bfloat16's error falls from 0.39 to 0.02).
#pragma once

#include "scan_chains.cuh"

namespace crnn {

enum class Pass { kForward, kBackward };
// How float products are made: of floats rounded to tf32, or of three tf32 products, nearly exact.
enum class Products { kRounded, kSplit };

template <typename Cell_, typename S_, int kD_, int kN_, Products kProducts_ = Products::kRounded>
struct Resident {
  using Cell = Cell_;
  using S = S_;
  static constexpr int kD = kD_, kN = kN_;  // channels, padded; chains
  static constexpr Products kProducts = kProducts_;
  static constexpr int kG = Cell::kGates, kFirst = Cell::kFirstGates;
  static constexpr int kWarps = kD / 16 < 8 ? kD / 16 : 8, kThreads = 32 * kWarps;
  static constexpr int kI = kD / (16 * kWarps), kJ = kN / 8;       // tiles of units of a warp; of chains
  static constexpr int kDepth = 32 / sizeof(S), kK = kD / kDepth;  // a product's inner size; steps of it
  static constexpr int kTiles = kG * kI * kK;                      // of A, four words a lane each
  static constexpr int kHeld = kTiles < 32 ? kTiles : 32;          // of them in registers; others shared
  static constexpr int kElements = kI * kJ * 4;                    // (unit, chain) places of a thread
  static constexpr int kChunk = 16 / sizeof(S);                    // channels of a 16-byte copy
  // Bytes from row to row of a tile: an odd multiple of 16, so that eight rows fall into different banks.
  static constexpr uint32_t pitch(int columns) { return columns * sizeof(S) + 16; }
  static constexpr uint32_t tile_bytes(int columns) { return kN * pitch(columns); }
};

// The bits of one float or of two two-byte values.
template <typename S>
CRNN_DEVICE uint32_t word_of(const S (&values)[4 / sizeof(S)]) {
  uint32_t word;
  __builtin_memcpy(&word, values, 4);
  return word;
}
template <typename S>
CRNN_DEVICE float value_of(uint32_t word, int index) {
  S values[4 / sizeof(S)];
  __builtin_memcpy(values, &word, 4);
  return widen<float>(values[index]);
}

// A thread's places in its warp's tiles.
template <typename R>
struct Places {
  const int lane = device::lane(), first_unit = device::warp() * 16 * R::kI;
  CRNN_DEVICE int unit(int i, int e) const { return first_unit + i * 16 + lane / 4 + e / 2 * 8; }
  CRNN_DEVICE int chain(int j, int e) const { return j * 8 + lane % 4 * 2 + e % 2; }
};

// A direction's steps from its segment's first position on, in int: scan_resident.cu sees to it that P fits.
struct Lines {
  const int length, step, jump;  // jump: from the last position of a line to the first of the next
  CRNN_DEVICE explicit Lines(const Direction& d)
      : length(int(d.length)),
        step(int(d.step_stride)),
        jump(int(d.line_stride - (d.length - 1) * d.step_stride)) {}
};

// Where a step is: `offset` positions from the segment's first.
struct Walk {
  int offset, within;  // within its line
  CRNN_DEVICE void next(const Lines& lines) {
    const bool last = ++within == lines.length;
    offset += last ? lines.jump : lines.step;
    within = last ? 0 : within;
  }
  CRNN_DEVICE void back(const Lines& lines) {
    const bool first = within-- == 0;
    offset -= first ? lines.jump : lines.step;
    within = first ? lines.length - 1 : within;
  }
};

// A direction's matrix of each gate as A operands: the first kHeld tiles in registers, the others in shared
// memory. kDiagonal: it is W_hh, whose diagonal is kept apart.
//
// Each warp brings its own rows, kRound tiles at a time, through a staging place at the start of shared
// memory that everything else uses afterwards: a block barrier must follow.
template <typename R, Pass kPass, int kHeld = R::kHeld, bool kDiagonal = true>
struct Weights {
  using S = typename R::S;
  static constexpr int kRound = R::kK < 8 ? R::kK : 8;
  // Staged, forward: 16 rows of W_hh, kRound tiles wide; backward: kRound tiles of rows, 16 channels wide.
  static constexpr int kRows = kPass == Pass::kForward ? 16 : kRound * R::kDepth;
  static constexpr int kRowChunks = kPass == Pass::kForward ? kRound * 2 : 16 / R::kChunk;
  static constexpr uint32_t kPitch = kRowChunks * 16 + 16;
  static constexpr uint32_t kStagingBytes = R::kWarps * kRows * kPitch;
  static constexpr uint32_t kSharedBytes = (R::kTiles - kHeld) * R::kThreads * 16;

  uint32_t held[kHeld ? kHeld : 1][4];
  float diagonal[R::kG][R::kI][2];
  const uint32_t rest;  // where the others lie: this thread's words of each tile

  CRNN_DEVICE Weights(const ScanCall& call, int k, uint32_t address)
      : Weights(static_cast<const S*>(call.whh) + k * R::kG * call.D * call.D, int(call.D), int(call.D),
            address) {}
  // Of a [gates, rows, columns] matrix.
  CRNN_DEVICE Weights(const S* matrix, int rows, int columns, uint32_t address)
      : rest(address + device::thread() * 16) {
    const Places<R> at;
#pragma unroll
    for (int g = 0; g < R::kG; ++g)
#pragma unroll
      for (int i = 0; i < R::kI; ++i) {
#pragma unroll
        for (int k0 = 0; k0 < R::kK; k0 += kRound) {
          stage(matrix + int64_t(g) * rows * columns, rows, columns, at.first_unit + i * 16, k0 * R::kDepth);
#pragma unroll
          for (int n = 0; n < kRound; ++n)
            take((g * R::kI + i) * R::kK + k0 + n, n, at.first_unit + i * 16 - (k0 + n) * R::kDepth);
        }
        if constexpr (kDiagonal) take_diagonal(matrix + int64_t(g) * rows * columns, rows, g, i);
      }
  }

  CRNN_DEVICE void take_diagonal(const S* gate, int D, int g, int i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t u = Places<R>().unit(i, half * 2);
      diagonal[g][i][half] = u < D ? widen<float>(gate[u * D + u]) : 0.0f;
    }
  }

  static CRNN_DEVICE uint32_t staging() { return device::warp() * kRows * kPitch; }

  // This warp's block of a gate's matrix: units `unit` .., inner channels `inner` ...
  static CRNN_DEVICE void stage(const S* gate, int rows, int columns, int unit, int inner) {
    const int row = kPass == Pass::kForward ? unit : inner, column = kPass == Pass::kForward ? inner : unit;
    device::warp_barrier();  // the block before was taken
#pragma unroll
    for (int first = 0; first < kRows * kRowChunks; first += 32) {
      const int r = (first + device::lane()) / kRowChunks, c = (first + device::lane()) % kRowChunks;
      const int from = column + c * R::kChunk;
      device::copy_async(staging() + r * kPitch + c * 16, gate + int64_t(row + r) * columns + from,
          row + r < rows && from < columns);
    }
    device::copy_async_commit();
    device::copy_async_wait<0>();
    device::warp_barrier();
  }

  // The n-th staged tile becomes tile `tile`. Its diagonal is that of W_hh, which is left out, where its
  // first row and column are `apart` = 0 (16 x 16 tiles), or 0 or 8 (16 x 8).
  CRNN_DEVICE void take(int tile, int n, int apart) {
    const int lane = device::lane();
    uint32_t a[4];
    if constexpr (kPass == Pass::kForward) {
      // 8x8 blocks in the order of A's words: left upper, left lower, right upper, right lower.
      device::load_matrices(a, staging() + (lane % 8 + lane / 8 % 2 * 8) * kPitch + n * 32 + lane / 16 * 16);
    } else if constexpr (sizeof(S) == 2) {
      device::load_matrices_transposed(
          a, staging() + (n * 16 + lane % 8 + lane / 16 * 8) * kPitch + lane / 8 % 2 * 16);
    } else {
#pragma unroll
      for (int q = 0; q < 4; ++q)
        a[q] = device::load_shared<uint32_t>(
            staging() + (n * 8 + lane % 4 + q / 2 * 4) * kPitch + (lane / 4 + q % 2 * 8) * 4);
    }
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int row = lane / 4 + q % 2 * 8 + apart,
                column = lane % 4 * (4 / sizeof(S)) + q / 2 * R::kDepth / 2;
      if constexpr (kDiagonal && sizeof(S) == 2)
        a[q] &= row == column ? 0xFFFF0000u : row == column + 1 ? 0x0000FFFFu : ~0u;
      else if (kDiagonal && row == column)
        a[q] = 0;
      if constexpr (sizeof(S) == 4 && R::kProducts == Products::kRounded)
        a[q] = device::tf32(value_of<S>(a[q], 0));
    }
    if (tile < kHeld) {
#pragma unroll
      for (int q = 0; q < 4; ++q) held[tile][q] = a[q];
    } else {
      device::store_shared(rest + (tile - kHeld) * R::kThreads * 16, device::Sixteen{a[0], a[1], a[2], a[3]});
    }
  }

  // `a` = tile (g, i, k).
  CRNN_DEVICE void get(int g, int i, int k, uint32_t (&a)[4]) const {
    const int tile = (g * R::kI + i) * R::kK + k;
    if (tile < kHeld) {
#pragma unroll
      for (int q = 0; q < 4; ++q) a[q] = held[tile][q];
    } else {
      const auto words = device::load_shared<device::Sixteen>(rest + (tile - kHeld) * R::kThreads * 16);
#pragma unroll
      for (int q = 0; q < 4; ++q) a[q] = words.word[q];
    }
  }
};

// C += A B with B's two words in b0, b1, by R::kProducts.
template <typename R>
CRNN_DEVICE void multiply_as(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  using S = typename R::S;
  if constexpr (sizeof(S) == 2) {
    device::multiply<S>(c, a, b0, b1);
  } else {
    const float b[2] = {value_of<S>(b0, 0), value_of<S>(b1, 0)};
    const uint32_t b_high[2] = {device::tf32(b[0]), device::tf32(b[1])};
    if constexpr (R::kProducts == Products::kRounded) {
      device::multiply<S>(c, a, b_high[0], b_high[1]);
    } else {
      uint32_t high[4], low[4];
#pragma unroll
      for (int q = 0; q < 4; ++q) {
        const float v = value_of<S>(a[q], 0);
        high[q] = device::tf32(v), low[q] = device::tf32(v - value_of<S>(high[q], 0));
      }
      device::multiply<S>(c, low, b_high[0], b_high[1]);
      device::multiply<S>(c, high, device::tf32(b[0] - value_of<S>(b_high[0], 0)),
          device::tf32(b[1] - value_of<S>(b_high[1], 0)));
      device::multiply<S>(c, high, b_high[0], b_high[1]);
    }
  }
}

// B operands of inner steps k and k + 1 of the rows of chains j * 8 ..: r[0..1] and r[2..3].
template <typename R>
CRNN_DEVICE void load_operands(uint32_t (&r)[4], uint32_t tile, uint32_t pitch, int j, int k) {
  const int lane = device::lane();
  device::load_matrices(r, tile + (j * 8 + lane % 8) * pitch + k * 32 + lane / 8 * 16);
}

// v[4]: a thread's places (i, j) of a tile of rows, from channel `column` on.
template <typename R>
CRNN_DEVICE void load_places(float (&v)[4], uint32_t tile, uint32_t pitch, int column, int i, int j) {
  using S = typename R::S;
  const Places<R> at;
  if constexpr (sizeof(S) == 2) {
    uint32_t r[2];
    const uint32_t row = tile + (j * 8 + at.lane % 8) * pitch;
    device::load_matrices_transposed(r, row + (column + at.first_unit + i * 16 + at.lane / 8 % 2 * 8) * 2);
#pragma unroll
    for (int e = 0; e < 4; ++e) v[e] = value_of<S>(r[e / 2], e % 2);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      v[e] = device::load_shared<S>(tile + at.chain(j, e) * pitch + (column + at.unit(i, e)) * 4);
  }
}
template <typename R>
CRNN_DEVICE void store_places(const float (&v)[4], uint32_t tile, uint32_t pitch, int column, int i, int j) {
  using S = typename R::S;
  const Places<R> at;
  if constexpr (sizeof(S) == 2) {
    const S low[2] = {narrow<S>(v[0]), narrow<S>(v[1])}, high[2] = {narrow<S>(v[2]), narrow<S>(v[3])};
    const uint32_t r[2] = {word_of<S>(low), word_of<S>(high)};
    const uint32_t row = tile + (j * 8 + at.lane % 8) * pitch;
    device::store_matrices_transposed(row + (column + at.first_unit + i * 16 + at.lane / 8 % 2 * 8) * 2, r);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      device::store_shared<S>(tile + at.chain(j, e) * pitch + (column + at.unit(i, e)) * 4, v[e]);
  }
}

// The block's chains: where their rows begin. The table lies in shared memory.
template <typename R>
struct TileChains {
  const ScanCall& call;
  const Direction& dir;
  const int k, steps, first, count;
  const uint32_t table;

  static constexpr uint32_t kSharedBytes = R::kN * 16;

  CRNN_DEVICE TileChains(const ScanCall& c, bool backward, uint32_t address)
      : TileChains(c, Chains(c, device::block_y(), backward), address) {}
  CRNN_DEVICE TileChains(const ScanCall& c, const Chains& chains, uint32_t address)
      : call(c),
        dir(chains.dir),
        k(int(chains.k)),
        steps(int(chains.segments.steps)),
        first(device::block_x() * R::kN),
        count(int(chains.count - first < R::kN ? chains.count - first : R::kN)),
        table(address) {}

  // The element offset of chain b's row at its segment's first step in `rows` (z, dstate).
  // Sets up the table; a barrier must follow.
  CRNN_DEVICE void fill(const Rows& rows) const {
    const int b = device::thread();
    if (b >= R::kN) return;
    const int64_t chain = b < count ? first + b : 0, n = chain % call.N;
    const int64_t position = dir.origin + chain / call.N * dir.line_stride;
    device::store_shared(table + b * 16, position * rows.p + n * rows.n + k * rows.k);
    device::store_shared(table + b * 16 + 8, position * call.N + n);
  }
  CRNN_DEVICE int64_t strided(int b) const { return device::load_shared<int64_t>(table + b * 16); }
  // position * N + sample of the same.
  CRNN_DEVICE int64_t cell(int b) const { return device::load_shared<int64_t>(table + b * 16 + 8); }
  // The row of a contiguous [P, N, K, .] tensor, the step being `offset` positions on.
  CRNN_DEVICE int64_t row(int b, int offset) const { return (cell(b) + offset * call.N) * call.K + k; }
  CRNN_DEVICE bool has(int b) const { return b < count; }

  // visit(b, part, channel, inside) for all 16-byte chunks of a tile of kParts times D channels.
  template <int kParts, typename Visit>
  CRNN_DEVICE void chunks(Visit&& visit) const {
    constexpr int kChunks = R::kD / R::kChunk, kRow = kParts * kChunks;
#pragma unroll
    for (int first = 0; first < R::kN * kRow; first += R::kThreads) {
      const int at = first + device::thread(), b = at / kRow, part = at % kRow / kChunks;
      const int channel = at % kChunks * R::kChunk;
      if (R::kN * kRow % R::kThreads == 0 || at < R::kN * kRow)
        visit(b, part, channel, has(b) && channel < call.D);
    }
  }
};

}  // namespace crnn
