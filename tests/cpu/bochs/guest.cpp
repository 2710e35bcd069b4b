// The only program of an emulated machine (emulate.py): every kernel of csrc/cpu by the instructions of every
// processor, on shapes that divide no tile. Prints the worst relative (Frobenius) errors against the portable
// kernels in double on the same inputs, a line a row of emulate.py's table; backward is given the states that
// the kernel under test computed, so that a relu which rounding pushed over 0 is no error of the gradient.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#if defined(__linux__)
#include <sys/reboot.h>
#include <unistd.h>
#endif

#include "../../../csrc/cpu/pass.h"
#include "../../../csrc/cpu/tile_choice.h"

namespace crnn {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// Values in -1 .. 1, the same for every type.
struct Random {
  uint64_t state = 1;
  double operator()() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return double(int32_t(state >> 32)) / 2147483648.0;
  }
};

template <typename S>
std::vector<S> values(Random& random, int64_t count, double scale, double shift = 0) {
  std::vector<S> v(count);
  for (S& x : v) x = S(float(scale * random() + shift));
  return v;
}

template <typename To, typename From>
std::vector<To> converted(const std::vector<From>& from) {
  std::vector<To> to;
  for (From v : from) to.push_back(To(v));
  return to;
}

template <typename S>
double error(const std::vector<S>& got, const std::vector<double>& want) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i)
    difference += std::pow(double(got[i]) - want[i], 2), size += want[i] * want[i];
  return std::sqrt(size > 0 ? difference / size : difference);
}

struct Shape {
  int64_t N, H, W, D;
  LineBreak line_break;
};
constexpr Shape kShapes[] = {{1, 2, 3, 1, LineBreak::kCarryValue}, {5, 1, 4, 7, LineBreak::kCarry},
    {25, 2, 2, 72, LineBreak::kCarryValue}, {17, 3, 1, 33, LineBreak::kReset},
    {257, 1, 2, 4, LineBreak::kCarry}, {3, 1, 2, 130, LineBreak::kCarry}, {1, 1, 2, 520, LineBreak::kReset}};

// Two directions of a map of one shape, with states before the first step, and a cell's tensors.
template <typename Cell, typename S>
struct Scan {
  static constexpr int64_t kK = 2, kG = Cell::kGates, kFirst = Cell::kFirstGates;
  using T = Compute<S>;
  const Shape& q;
  const int64_t P = q.H * q.W, D = q.D, rows = P * q.N * kK;
  const Direction plan[kK] = {
      {0, q.W, 1, q.H, q.W, q.line_break}, {(q.H - 1) * q.W, q.H, -q.W, q.W, 1, q.line_break}};
  std::vector<S> z, whh, params, initial, dstate;
  std::vector<S> state = std::vector<S>(Cell::kStates * rows * D),
                 saved = std::vector<S>(rows * Cell::kSaved * D);
  std::vector<S> dz = std::vector<S>(rows * kG * D), dwhh = std::vector<S>(kK * kG * D * D);
  std::vector<T> packed;

  explicit Scan(const Shape& shape) : q(shape) {
    Random random;
    z = values<S>(random, rows * kG * D, 1.7);
    whh = values<S>(random, kK * kG * D * D, 1.2 / std::sqrt(double(D)));  // contractive
    params = values<S>(random, kK * Cell::kParams * D, 0.3, 1);
    initial = values<S>(random, Cell::kStates * q.N * kK * D, 1.7);
    dstate = values<S>(random, Cell::kStates * rows * D, 1.7);
  }
  template <typename Other>  // the same inputs and states
  explicit Scan(const Scan<Cell, Other>& s)
      : q(s.q),
        z(converted<S>(s.z)),
        whh(converted<S>(s.whh)),
        params(converted<S>(s.params)),
        initial(converted<S>(s.initial)),
        dstate(converted<S>(s.dstate)),
        state(converted<S>(s.state)),
        saved(converted<S>(s.saved)),
        dz(converted<S>(s.dz)) {}

  template <typename SegmentsOf, typename Run>
  void units(SegmentsOf&& segments_of, Run&& run) const {
    int64_t index = 0;
    for (int64_t k = 0; k < kK; ++k) {
      const Segments segments = segments_of(plan[k]);
      const int64_t chains = segments.count * q.N, tiles = (chains + kTile - 1) / kTile;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t first = chains * t / tiles;
        run(Unit{index++, k, first, chains * (t + 1) / tiles - first, segments});
      }
    }
  }

  Call<S> call(const Tiles<S>& tiles, bool transposed) {
    Call<S> c{P, q.N, kK, D, plan, params.data(), initial.data(), nullptr, tiles.width, false, {}};
    const int64_t outputs[2] = {kFirst * D, (kG - kFirst) * D};
    int64_t sizes[2];
    for (int i : {0, 1})
      sizes[i] = transposed ? tiles.packed_size(D, outputs[i]) : tiles.packed_size(outputs[i], D);
    packed.assign(kK * (sizes[0] + sizes[1]), T(0));
    for (int64_t k = 0; k < kK; ++k)
      for (int i : {0, 1}) {
        const S* matrix = whh.data() + (k * kG * D + i * outputs[0]) * D;
        T* to = packed.data() + i * kK * sizes[0] + k * sizes[i];
        const Matrix<S> whole = transposed ? Matrix<S>{matrix, D, 1, D} : Matrix<S>{matrix, outputs[i], D, 1};
        const int64_t columns = transposed ? outputs[i] : D,
                      size = tiles.packed_size(whole.inner, tiles.width);
        for (int64_t c = 0; c < columns; c += tiles.width, to += size)
          tiles.pack(whole.from_column(c), {}, std::min(tiles.width, columns - c), to);
      }
    c.packed[0] = packed.data(), c.packed[1] = packed.data() + kK * sizes[0];
    return c;
  }

  void forward(const Tiles<S>& tiles) {
    const ForwardCall<S> c{call(tiles, true), z.data(), nullptr, {q.N * kK * kG * D, kK * kG * D, kG * D}, {},
        0, state.data(), saved.data()};
    std::vector<T> scratch(forward_scratch<Cell>(D, 0, tiles.width));
    units([](const Direction& d) { return d.value_segments(); },
        [&](const Unit& u) { tiles.forward[Cells::index(Cell::kName)](c, u, scratch.data()); });
  }

  void backward(const Tiles<S>& tiles) {
    const int64_t starts = q.H * q.W;  // at least the segments of a direction
    std::vector<S> dstart(starts * Cell::kStates * q.N * kK * D);
    std::vector<T> dparams(kK * starts * q.N * Cell::kParams * D);
    std::vector<T> scratch(backward_scratch<Cell>(D, tiles.rows, tiles.width, false));
    const BackwardCall<S> c{call(tiles, false), state.data(), saved.data(), dstate.data(),
        {q.N * kK * D, kK * D, D}, rows * D, dz.data(), {kK * kG * D, P * kK * kG * D, kG * D}, dstart.data(),
        dparams.data(), nullptr};
    units([](const Direction& d) { return d.gradient_segments(); },
        [&](const Unit& u) { tiles.backward[Cells::index(Cell::kName)](c, &u, 1, nullptr, scratch.data()); });
  }

  // d W_hh of each direction and phase as one share.
  void weights(const Tiles<S>& tiles) {
    const WeightsCall<S> c{P, q.N, kK, D, kG, plan, dz.data(), initial.data(), nullptr, state.data(),
        saved.data(), {kK * kG * D, P * kK * kG * D, kG * D}, Cell::kSaved};
    const int64_t width = round_up(D, tiles.width);
    for (int64_t k = 0; k < kK; ++k)
      for (int64_t first : {int64_t(0), kFirst * D}) {
        const int64_t count = (first ? kG * D : kFirst * D) - first, padded = round_up(count, tiles.rows);
        if (count == 0) continue;
        std::vector<T> out(padded * width), scratch(weights_scratch(padded, D, tiles.rows, tiles.width));
        tiles.weights(
            c, {k, first, count, first ? Cell::kReset : -1, 0, P * q.N, out.data()}, scratch.data());
        for (int64_t r = 0; r < count; ++r)
          for (int64_t d = 0; d < D; ++d) dwhh[((k * kG * D) + first + r) * D + d] = S(out[r * width + d]);
      }
  }
};

template <typename Cell, typename S>
void scan(const char* type, const Tiles<S>& tiles) {
  double worst[3] = {};
  for (const Shape& shape : kShapes) {
    if (shape.D > 512 && Cell::kGates > 1) continue;  // the emulated machine is slow
    Scan<Cell, S> s(shape);
    Scan<Cell, double> states(s);
    s.forward(tiles), states.forward(tiles_portable<double>());
    worst[0] = std::max(worst[0], error(s.state, states.state));
    Scan<Cell, double> gradients(s);
    s.backward(tiles), gradients.backward(tiles_portable<double>());
    worst[1] = std::max(worst[1], error(s.dz, gradients.dz));
    Scan<Cell, double> weights(s);
    s.weights(tiles), weights.weights(tiles_portable<double>());
    worst[2] = std::max(worst[2], error(s.dwhh, weights.dwhh));
  }
  std::printf("row scan %s %s %s %.1e %.1e %.1e\n", Cell::kName.data(), type, tiles.name, worst[0], worst[1],
      worst[2]);
  std::fflush(stdout);
}

template <typename S, typename... Cell>
void every_cell(const char* type, const char* variant, CellList<Cell...>) {
  (scan<Cell, S>(type, choose_tiles<S>(variant)), ...);
}

template <typename S>
const Passes<S>& passes(const char* variant) {
  return choose("guest", variant, {&passes_avx512<S>(), &passes_avx2<S>(), &passes_portable<S>()});
}

// Across channels and within, 37 channels of 11 x 13.
template <typename S>
void lrn(const char* type, const char* variant) {
  const int64_t C = 37, P = 11 * 13;
  double worst[2] = {};
  for (bool within : {false, true}) {
    Random random;
    const std::vector<S> x = values<S>(random, C * P, 2), dy = values<S>(random, C * P, 2);
    const auto run = [&]<typename R>(
                         const Passes<R>& p, const std::vector<R>& from, const std::vector<R>& d) {
      std::vector<R> out(C * P);
      using T = Compute<R>;
      LrnCall<R> c{
          from.data(), d.data(), out.data(), C, P, 1, P, 1, true, false, 5, T(0.1), T(0.75), T(1.5), true};
      if (within) c.rows = 11, c.columns = 13, c.row_stride = 13, c.along = true;
      for (int64_t channel = 0; channel < (within ? C : 1); ++channel) {
        std::vector<T> buffers(kLrnBuffers * c.plane());
        (d.empty() ? p.lrn_forward : p.lrn_backward)(c, {channel * P, c.rows, 1}, buffers.data());
      }
      return out;
    };
    const auto exact = converted<double>(x), exact_dy = converted<double>(dy);
    worst[0] =
        std::max(worst[0], error(run(passes<S>(variant), x, {}), run(passes_portable<double>(), exact, {})));
    worst[1] = std::max(
        worst[1], error(run(passes<S>(variant), x, dy), run(passes_portable<double>(), exact, exact_dy)));
  }
  std::printf("row lrn - %s %s %.1e %.1e -\n", type, variant, worst[0], worst[1]);
}

// One update of 1,001 values by every rule; the blob, and the first history.
template <typename S, typename... Rule>
void update(const char* type, const char* variant, CellList<Rule...>) {
  double worst[2] = {};
  for (int rule = 0; rule < Rules::kCount; ++rule) {
    Random random;
    std::vector<S> w = values<S>(random, 1001, 1), g = values<S>(random, 1001, 1);
    std::vector<S> h[2] = {values<S>(random, 1001, 0.4, 0.5), values<S>(random, 1001, 0.4, 0.5)};
    std::vector<double> ew = converted<double>(w), eg = converted<double>(g);
    std::vector<double> eh[2] = {converted<double>(h[0]), converted<double>(h[1])};
    const auto run = [&]<typename R>(const Passes<R>& p, R* blob, const R* grad, R* first, R* second) {
      using T = Compute<R>;
      UpdateCall<R> c{T(0.1), T(0.02), T(0.5), Regularizer::kL2, {}};
      const double numbers[kMaxNumbers] = {0.9, 0.99, 1e-3};
      for (int i = 0; i < kMaxNumbers; ++i) c.numbers[i] = T(numbers[i]);
      p.update[rule](c, {blob, grad, {first, second}, 1001});
    };
    run(passes<S>(variant), w.data(), g.data(), h[0].data(), h[1].data());
    run(passes_portable<double>(), ew.data(), eg.data(), eh[0].data(), eh[1].data());
    worst[0] = std::max(worst[0], error(w, ew)), worst[1] = std::max(worst[1], error(h[0], eh[0]));
  }
  std::printf("row update - %s %s %.1e %.1e -\n", type, variant, worst[0], worst[1]);
}

template <typename S>
void everything(const char* type) {
  for (const char* variant : {"avx512", "avx2", "portable"}) {
    if (!supported(variant) || (sizeof(S) == 8 && variant[0] == 'p')) continue;  // that one is the measure
    every_cell<S>(type, variant, Cells{});
    lrn<S>(type, variant);
    update<S>(type, variant, Rules{});
  }
}

}  // namespace
}  // namespace crnn

int main() {
  for (const char* name : {"portable", "avx2", "avx512", "amx"})
    std::printf("processor %s %s\n", name, crnn::supported(name) ? "yes" : "no");
  std::fflush(stdout);
  if (crnn::supported("amx")) crnn::every_cell<crnn::BFloat16>("bfloat16", "amx", crnn::Cells{});
  crnn::everything<float>("float");
  crnn::everything<double>("double");
  crnn::everything<crnn::BFloat16>("bfloat16");
  crnn::everything<crnn::Half>("half");
  std::puts("\ndone");
  std::fflush(stdout);
#if defined(__linux__)
  if (getpid() == 1) reboot(RB_POWER_OFF);
#endif
}
