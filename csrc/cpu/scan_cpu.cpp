// The scan on the CPU: a thread takes a tile of sequences through all their steps.
//
//   work     a unit is (direction, tile of chains); a chain is (segment, sample), a segment being the steps
//   that
//            nothing enters (forward) or leaves (backward) but through its ends: plan.h
//   memory   the tile's states stay in a buffer of [kTile, D]; W_hh is packed once a call and read from cache
//   order    units and the sums inside them do not depend on the number of threads: equal bits for any number
//   cost     gates * D * D multiply-adds per position, and each of z, state (dstate, dz) touched once
#include <torch/headeronly/core/Dispatch_v2.h>

#include <algorithm>
#include <cstring>
#include <tuple>

#include "../core/scan.h"
#include "panel.h"

namespace crnn {
namespace {

constexpr int64_t kTile = 24;  // chains of a unit: four row blocks of the widest product

// Element strides of a [P, N, K, D] tensor; channels are dense.
struct Strides {
  int64_t p, n, k;
  explicit Strides(const Tensor& t, int64_t first = 0)
      : p(t.stride(first)), n(t.stride(first + 1)), k(t.stride(first + 2)) {}
};

struct Unit {
  int64_t k, first, count;  // chains first .. first + count - 1 of direction k
  Segments segments;
};

template <typename SegmentsOf>
std::vector<Unit> units(const ScanShape& q, SegmentsOf&& segments_of) {
  std::vector<Unit> list;
  for (int64_t k = 0; k < q.K; ++k) {
    const Segments segments = segments_of(q.plan[k]);
    const int64_t chains = segments.count * q.N, tiles = (chains + kTile - 1) / kTile;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = chains * t / tiles;
      list.push_back({k, first, chains * (t + 1) / tiles - first, segments});
    }
  }
  return list;
}

template <typename T>
const Panel<T>& choose_panel(const std::string& variant) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  const bool avx2 = false;
#endif
  if (variant == "portable" || (variant.empty() && !avx2)) return panel_portable<T>();
  STD_TORCH_CHECK(variant.empty() || variant == "avx2", "crnn::scan: unknown variant '", variant,
      "' on cpu; known: portable, avx2");
  STD_TORCH_CHECK(avx2, "crnn::scan: variant 'avx2' needs a processor with AVX2 and FMA");
  return panel_avx2<T>();
}

// What the units of a call share.
template <typename T>
struct Call {
  const ScanShape& q;
  const Panel<T>& panel;
  const T *initial, *cont;  // or null
  std::vector<T> packed;    // W_hh, per direction

  int64_t row(int64_t p, int64_t n, int64_t k) const { return (p * q.N + n) * q.K + k; }
  int64_t plane() const { return q.P * q.N * q.K * q.D; }  // between two states
  int64_t initial_at(int64_t j, int64_t n, int64_t k) const { return ((j * q.N + n) * q.K + k) * q.D; }
  T keep(int64_t p, int64_t n) const { return cont ? cont[p * q.N + n] : T(1); }
  int64_t padded(int64_t columns) const { return (columns + panel.width - 1) / panel.width * panel.width; }

  // Packs the [inner, columns] matrices of all directions; matrix[i][c] = whh[k][i * row_stride + c *
  // column_stride].
  void pack_all(const T* whh, int64_t inner, int64_t columns, int64_t row_stride, int64_t column_stride) {
    packed.resize(q.K * inner * padded(columns));
    for (int64_t k = 0; k < q.K; ++k)
      pack(whh + k * inner * columns, inner, columns, row_stride, column_stride, panel.width,
          packed.data() + k * inner * padded(columns));
  }
  void product(int64_t k, int64_t rows, int64_t inner, int64_t columns, const T* a, T* out) const {
    const int64_t width = padded(columns);
    panel.product(rows, inner, a, inner, packed.data() + k * inner * width, width / panel.width, out, width);
  }
};

template <typename T>
struct Values {
  const T* z;
  Strides zs;
  T *state, *saved;
};

template <typename Cell, typename T>
void forward(const Call<T>& c, const Unit& u, const Values<T>& v) {
  const ScanShape& q = c.q;
  const Direction& dir = q.plan[u.k];
  const int64_t D = q.D, columns = c.padded(Cell::kGates * D), tile = u.count * D;
  std::vector<T> before(Cell::kStates * tile, T(0)), rec(u.count * columns, T(0));
  if (c.initial)
    for (int j = 0; j < Cell::kStates; ++j)
      for (int64_t b = 0; b < u.count; ++b)
        std::memcpy(
            &before[j * tile + b * D], c.initial + c.initial_at(j, (u.first + b) % q.N, u.k), D * sizeof(T));
  for (int64_t t = 0; t < u.segments.steps; ++t) {
    if (c.cont)
      for (int64_t b = 0; b < u.count; ++b) {
        const int64_t chain = u.first + b;
        const T keep = c.keep(dir.position(chain / q.N * u.segments.steps + t), chain % q.N);
        for (int j = 0; j < Cell::kStates; ++j)
          for (int64_t d = 0; d < D; ++d) before[j * tile + b * D + d] *= keep;
      }
    if (t > 0 || c.initial) c.product(u.k, u.count, D, Cell::kGates * D, before.data(), rec.data());
    for (int64_t b = 0; b < u.count; ++b) {
      const int64_t n = (u.first + b) % q.N;
      const int64_t p = dir.position((u.first + b) / q.N * u.segments.steps + t), row = c.row(p, n, u.k);
      const T* in_row = v.z + p * v.zs.p + n * v.zs.n + u.k * v.zs.k;
      const T* rec_row = &rec[b * columns];
      T *prev_row = &before[b * D], *state_row = v.state + row * D,
        *saved_row = v.saved + row * Cell::kSaved * D;
      for (int64_t d = 0; d < D; ++d) {
        T in[Cell::kGates], re[Cell::kGates], prev[Cell::kStates], now[Cell::kStates], keep[Cell::kSaved + 1];
        for (int g = 0; g < Cell::kGates; ++g) in[g] = in_row[g * D + d], re[g] = rec_row[g * D + d];
        for (int j = 0; j < Cell::kStates; ++j) prev[j] = prev_row[j * tile + d];
        Cell::forward(in, re, prev, now, keep);
        for (int j = 0; j < Cell::kStates; ++j)
          state_row[j * c.plane() + d] = prev_row[j * tile + d] = now[j];
        for (int j = 0; j < Cell::kSaved; ++j) saved_row[j * D + d] = keep[j];
      }
    }
  }
}

// drec is null where the cell has kSameGrad; dstart [segment, j, n, k, D] is null where there is no
// `initial`.
template <typename T>
struct Gradients {
  const T *state, *saved, *dstate;
  Strides ds;
  int64_t dstate_plane;
  T *dz, *drec, *dstart;
};

template <typename Cell, typename T>
void backward(const Call<T>& c, const Unit& u, const Gradients<T>& g) {
  const ScanShape& q = c.q;
  const Direction& dir = q.plan[u.k];
  const int64_t D = q.D, gates = Cell::kGates * D, columns = c.padded(D), tile = u.count * D;
  std::vector<T> carry(Cell::kStates * tile, T(0)), rec(u.count * gates), product(u.count * columns);
  std::vector<T> start(D, T(0)), keeps(u.count);
  for (int64_t t = u.segments.steps - 1; t >= 0; --t) {
    for (int64_t b = 0; b < u.count; ++b) {
      const int64_t n = (u.first + b) % q.N, s = (u.first + b) / q.N * u.segments.steps + t;
      const int64_t p = dir.position(s), row = c.row(p, n, u.k);
      const T keep = keeps[b] = c.keep(p, n);
      // prev[j] stands at before + j * step_between: the step before, or `initial`, or zeros
      const bool crosses = dir.value_crosses(s);
      const T* before = crosses     ? g.state + c.row(dir.position(s - 1), n, u.k) * D
                        : c.initial ? c.initial + c.initial_at(0, n, u.k)
                                    : start.data();
      const int64_t between = crosses ? c.plane() : c.initial ? q.N * q.K * D : 0;
      const T *now_row = g.state + row * D, *saved_row = g.saved + row * Cell::kSaved * D;
      const T* ds_row = g.dstate + p * g.ds.p + n * g.ds.n + u.k * g.ds.k;
      T *dz_row = g.dz + row * gates, *rec_row = &rec[b * gates], *carry_row = &carry[b * D];
      for (int64_t d = 0; d < D; ++d) {
        T now[Cell::kStates], prev[Cell::kStates], saved[Cell::kSaved + 1], ds[Cell::kStates];
        T din[Cell::kGates], dre[Cell::kGates], dprev[Cell::kStates] = {};
        for (int j = 0; j < Cell::kStates; ++j) {
          now[j] = now_row[j * c.plane() + d], prev[j] = keep * before[j * between + d];
          ds[j] = carry_row[j * tile + d] + ds_row[j * g.dstate_plane + d];
        }
        for (int j = 0; j < Cell::kSaved; ++j) saved[j] = saved_row[j * D + d];
        Cell::backward(now, prev, saved, ds, din, dre, dprev);
        for (int i = 0; i < Cell::kGates; ++i) {
          dz_row[i * D + d] = din[i];
          if constexpr (Cell::kSameGrad)
            rec_row[i * D + d] = din[i];
          else
            g.drec[row * gates + i * D + d] = rec_row[i * D + d] = dre[i];
        }
        for (int j = 0; j < Cell::kStates; ++j) carry_row[j * tile + d] = keep * dprev[j];
      }
    }
    if (t == 0 && !g.dstart) return;
    c.product(u.k, u.count, gates, D, rec.data(), product.data());
    for (int64_t b = 0; b < u.count; ++b)
      for (int64_t d = 0; d < D; ++d) carry[b * D + d] += keeps[b] * product[b * columns + d];
  }
  for (int64_t b = 0; b < u.count;
      ++b)  // only segments that start from `initial` have a share in its gradient
    for (int j = 0; j < Cell::kStates; ++j) {
      const int64_t segment = (u.first + b) / q.N, n = (u.first + b) % q.N;
      if (!dir.value_crosses(segment * u.segments.steps))
        std::memcpy(g.dstart + segment * Cell::kStates * q.N * q.K * D + c.initial_at(j, n, u.k),
            &carry[j * tile + b * D], D * sizeof(T));
    }
}

template <typename T>
const T* optional_data(const std::optional<Tensor>& t) {
  return t ? t->const_data_ptr<T>() : nullptr;
}

// A call's units on torch's threads; run(c, unit) for the cell c.
template <typename Run>
void parallel_units(const std::string& cell, const std::vector<Unit>& work, Run&& run) {
  Cells::visit(cell, [&](auto c) {
    torch::stable::parallel_for(0, work.size(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) run(c, work[u]);
    });
  });
}

template <typename T>
Call<T> make_call(const ScanShape& q, const ScanInputs& in, const std::string& variant) {
  return {q, choose_panel<T>(variant), optional_data<T>(in.initial), optional_data<T>(in.cont), {}};
}

template <typename T>
void run_forward(const ScanShape& q, const ScanInputs& in, const std::string& variant, const Tensor& z,
    Tensor& state, Tensor& saved) {
  Call<T> call = make_call<T>(q, in, variant);
  call.pack_all(in.whh.const_data_ptr<T>(), q.D, q.gates * q.D, 1, q.D);
  const Values<T> v{
      z.const_data_ptr<T>(), Strides(z), state.mutable_data_ptr<T>(), saved.mutable_data_ptr<T>()};
  parallel_units(in.cell, units(q, [](const Direction& d) { return d.value_segments(); }),
      [&](auto c, const Unit& u) { forward<decltype(c)>(call, u, v); });
}

template <typename T>
void run_backward(
    const ScanShape& q, const ScanInputs& in, const std::string& variant, const Gradients<T>& g) {
  Call<T> call = make_call<T>(q, in, variant);
  call.pack_all(in.whh.const_data_ptr<T>(), q.gates * q.D, q.D, q.D, 1);
  parallel_units(in.cell, units(q, [](const Direction& d) { return d.gradient_segments(); }),
      [&](auto c, const Unit& u) { backward<decltype(c)>(call, u, g); });
}

using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor> scan_cpu(const Tensor& z, const Tensor& whh, const OptionalTensor& cell_params,
    const OptionalTensor& initial, const OptionalTensor& cont, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(z, in);
  check_rows(z, q.gates * q.D, "z");
  Tensor state = torch::stable::new_empty(z, {q.states, q.P, q.N, q.K, q.D});
  Tensor saved = torch::stable::new_empty(z, {q.P, q.N, q.K, q.saved, q.D});
  THO_DISPATCH_V2(z.scalar_type(), "crnn::scan on cpu",
      AT_WRAP([&] { run_forward<scalar_t>(q, in, variant, z, state, saved); }), AT_EXPAND(AT_FLOATING_TYPES));
  return {state, saved};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> scan_backward_cpu(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(torch::stable::select(state, 0, 0), in);
  check_rows(dstate, q.D, "dstate");
  int64_t starts = 0;  // segments of the direction that has most
  for (const Direction& d : q.plan) starts = std::max(starts, initial ? d.gradient_segments().count : 0);
  Tensor dz = torch::stable::new_empty(state, {q.P, q.N, q.K, q.gates * q.D});
  Tensor drec = torch::stable::new_empty(state, {q.same_grad ? 0 : q.P, q.N, q.K, q.gates * q.D});
  Tensor dcell_params = torch::stable::new_empty(state, {0});
  Tensor dstart = torch::stable::new_zeros(state, {starts, q.states, q.N, q.K, q.D});
  THO_DISPATCH_V2(state.scalar_type(), "crnn::scan_backward on cpu", AT_WRAP([&] {
    run_backward<scalar_t>(q, in, variant,
        Gradients<scalar_t>{state.const_data_ptr<scalar_t>(), saved.const_data_ptr<scalar_t>(),
            dstate.const_data_ptr<scalar_t>(), Strides(dstate, 1), dstate.stride(0),
            dz.mutable_data_ptr<scalar_t>(), q.same_grad ? nullptr : drec.mutable_data_ptr<scalar_t>(),
            initial ? dstart.mutable_data_ptr<scalar_t>() : nullptr});
  }),
      AT_EXPAND(AT_FLOATING_TYPES));
  const std::vector<int64_t> segments{0};
  return {dz, drec, dcell_params, torch::stable::sum(dstart, segments)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan_cpu));
  m.impl("scan_backward", TORCH_BOX(&scan_backward_cpu));
}

}  // namespace crnn
