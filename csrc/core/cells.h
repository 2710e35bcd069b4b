// Recurrent cells: the pointwise half of one step, shared by every compiled backend.
//
// A cell sees one channel of one sequence at one step. A step has a matrix product or two. Phase 0 multiplies
// the first kFirstGates gates' rows of W_hh with h; where there are more gates, `operand` then makes, from
// phase 0's, the vector that their rows are multiplied with in phase 1. `forward` gives the new states
// and `saved`: all that backward needs and cannot cheaply rebuild. `backward` is its reverse; with two
// phases, `backward_operand` follows it, when d operand is known. d rec[g] == d x[g] in every cell, so there
// is only dx. A kNormalised cell gets x[0] = (a - mean) / deviation of a = z + W_hh h over the channels and
// rec[0] = 0; the backend keeps a as saved[0], hands the normalised value back as saved[0] in backward, and
// makes d a from dx[0]. To add a cell: a struct here, its torch twin in crnn/ops/reference.py, its name in
// `Cells`.
#pragma once

#include <string_view>

#include "math.h"
#include "plan.h"

namespace crnn {

template <typename T>
struct Forward {
  const T* x;     // [gates] input: (W_ih x_s + b) of each gate
  const T* rec;   // [gates] recurrent part: W_hh times h (or times the operand) of each gate
  const T* prev;  // [states] before the step; prev[0] is h
  const T* p;     // [params] the cell's own parameters
  T* state;       // [states]
  T* saved;       // [saved]
};

template <typename T>
struct Backward {
  const T *state, *prev, *saved, *p;
  const T* dstate;  // [states]
  T* dx;            // [gates]
  T* dprev;         // [states], zero at entry: the part that goes through no product
  T* dp;            // [params]
};

// What most cells are. Two phases, kFirstGates < kGates, go with kReset, the saved value that multiplies h to
// the operand. Bit j of kReadsState, kReadsPrev: backward looks at state j after, before the step; a
// backend need not bring the others. Bit j of kCarried: dprev[j] may differ from zero. kMasked: of the states
// after the step it asks only whether state 0 is above 0; a backend may keep that bit and hand 1 or 0.
// kGatesApart: `forward` is saved[g] = gate(g, x[g] + rec[g]) for all gates, then `finish`; a backend may do
// these apart.
struct PlainCell {
  static constexpr int kGates = 1, kStates = 1, kSaved = 0, kParams = 0, kFirstGates = 1, kReset = -1;
  static constexpr unsigned kReadsState = 1, kReadsPrev = 0, kCarried = 0;
  static constexpr bool kNormalised = false, kMasked = false, kGatesApart = false;
};

// Layer normalisation's epsilon, added to the variance (Xie 2016, eq. 15). As in crnn/ops/reference.py.
constexpr double kLnEps = 1e-5;

template <typename T>
CRNN_HD T relu(T v) {
  return v < T(0) ? T(0) : v;  // NaN stays NaN, as in torch.relu
}

struct ReluCell : PlainCell {  // h = relu(x + W h)                                    Zuo 2015, eq. 3-6
  static constexpr std::string_view kName = "relu";
  static constexpr bool kMasked = true;

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    f.state[0] = relu(f.x[0] + f.rec[0]);
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    b.dx[0] = b.state[0] > T(0) ? b.dstate[0] : T(0);
  }
};

struct TanhCell : PlainCell {  // h = tanh(x + W h)                                    Caffe: RNNLayer
  static constexpr std::string_view kName = "tanh";

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    f.state[0] = tanh_of(f.x[0] + f.rec[0]);
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    b.dx[0] = b.dstate[0] * (T(1) - b.state[0] * b.state[0]);
  }
};

struct LnReluCell : PlainCell {  // h = relu(gain norm(x + W h) + b)                   Xie 2016, eq. 14-15
  static constexpr std::string_view kName = "ln_relu";
  static constexpr int kSaved = 1, kParams = 2;
  static constexpr bool kNormalised = true;

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    f.state[0] = relu(f.p[0] * f.x[0] + f.p[1]);
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    b.dp[1] = b.state[0] > T(0) ? b.dstate[0] : T(0);
    b.dp[0] = b.dp[1] * b.saved[0];
    b.dx[0] = b.dp[1] * b.p[0];
  }
};

// Gates z, r, c. c = f(x_c + W_c (r h)): the reset acts before the product. h' = (1 - z) c + z h.
// saved: z, r, c.                                                                     Xie 2016, eq. 10-13
struct GruBase : PlainCell {
  static constexpr int kGates = 3, kSaved = 3, kFirstGates = 2, kReset = 1;
  static constexpr unsigned kReadsState = 0, kReadsPrev = 1, kCarried = 1;

  template <typename T>
  CRNN_HD static T operand(const Forward<T>& f) {
    f.saved[0] = sigmoid(f.x[0] + f.rec[0]), f.saved[1] = sigmoid(f.x[1] + f.rec[1]);
    return f.saved[1] * f.prev[0];
  }
  template <typename T>
  CRNN_HD static void finish(const Forward<T>& f, T c) {
    f.saved[2] = c;
    f.state[0] = (T(1) - f.saved[0]) * c + f.saved[0] * f.prev[0];
  }
  template <typename T>  // slope: of the candidate's activation
  CRNN_HD static void backward_with(const Backward<T>& b, T slope) {
    const T z = b.saved[0], c = b.saved[2];
    b.dx[0] = b.dstate[0] * (b.prev[0] - c) * z * (T(1) - z);
    b.dx[2] = b.dstate[0] * (T(1) - z) * slope;
    b.dprev[0] = b.dstate[0] * z;
  }
  template <typename T>
  CRNN_HD static void backward_operand(const Backward<T>& b, T doperand) {
    const T r = b.saved[1];
    b.dx[1] = doperand * b.prev[0] * r * (T(1) - r);
    b.dprev[0] += doperand * r;
  }
};

struct GruCell : GruBase {
  static constexpr std::string_view kName = "gru";

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    finish(f, relu(f.x[2] + f.rec[2]));
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    backward_with(b, b.saved[2] > T(0) ? T(1) : T(0));
  }
};

struct GruTanhCell : GruBase {
  static constexpr std::string_view kName = "gru_tanh";

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    finish(f, tanh_of(f.x[2] + f.rec[2]));
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    backward_with(b, T(1) - b.saved[2] * b.saved[2]);
  }
};

// Gates i, f, o, g; states h, c. c' = f c + i g; h = o tanh(c'). saved: i, f, o, g.  Caffe: LSTMLayer
struct LstmCell : PlainCell {
  static constexpr std::string_view kName = "lstm";
  static constexpr int kGates = 4, kStates = 2, kSaved = 4, kFirstGates = 4;
  static constexpr unsigned kReadsState = 2, kReadsPrev = 2, kCarried = 2;
  static constexpr bool kGatesApart = true;

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    for (int g = 0; g < kGates; ++g) f.saved[g] = gate(g, f.x[g] + f.rec[g]);
    finish(f);
  }
  template <typename T>
  CRNN_HD static T gate(int g, T a) {
    return g < 3 ? sigmoid(a) : tanh_of(a);
  }
  template <typename T>
  CRNN_HD static void finish(const Forward<T>& f) {
    f.state[1] = f.saved[1] * f.prev[1] + f.saved[0] * f.saved[3];
    f.state[0] = f.saved[2] * tanh_of(f.state[1]);
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    const T i = b.saved[0], f = b.saved[1], o = b.saved[2], g = b.saved[3], t = tanh_of(b.state[1]);
    const T dc = b.dstate[1] + b.dstate[0] * o * (T(1) - t * t);
    b.dx[0] = dc * g * i * (T(1) - i);
    b.dx[1] = dc * b.prev[1] * f * (T(1) - f);
    b.dx[2] = b.dstate[0] * t * o * (T(1) - o);
    b.dx[3] = dc * i * (T(1) - g * g);
    b.dprev[1] = dc * f;
  }
};

// Gates h', z. h' = relu(x' + U h); h = (1 - z) h_before + z h'. saved: h', z.        Zhang 2018, eq. 2
struct HalfGruCell : PlainCell {
  static constexpr std::string_view kName = "half_gru";
  static constexpr int kGates = 2, kSaved = 2, kFirstGates = 2;
  static constexpr unsigned kReadsState = 0, kReadsPrev = 1, kCarried = 1;

  template <typename T>
  CRNN_HD static void forward(const Forward<T>& f) {
    f.saved[0] = relu(f.x[0] + f.rec[0]), f.saved[1] = sigmoid(f.x[1] + f.rec[1]);
    f.state[0] = (T(1) - f.saved[1]) * f.prev[0] + f.saved[1] * f.saved[0];
  }
  template <typename T>
  CRNN_HD static void backward(const Backward<T>& b) {
    const T h = b.saved[0], z = b.saved[1];
    b.dx[0] = h > T(0) ? b.dstate[0] * z : T(0);
    b.dx[1] = b.dstate[0] * (h - b.prev[0]) * z * (T(1) - z);
    b.dprev[0] = b.dstate[0] * (T(1) - z);
  }
};

// The one list of cells. A cell is dispatched by name; the names are the ones of Python and of the prototxt.
template <typename... Cell>
struct CellList {
  static constexpr int kCount = sizeof...(Cell);

  // The place of the cell called `name`; kCount where there is none.
  static constexpr int index(std::string_view name) {
    int i = 0;
    (void)((name == Cell::kName ? true : (++i, false)) || ...);
    return i;
  }
  // Calls visit(Cell{}) for the cell called `name`; false where there is none.
  template <typename Visit>
  static bool visit(std::string_view name, Visit&& visit) {
    return ((name == Cell::kName ? (visit(Cell{}), true) : false) || ...);
  }
};
using Cells = CellList<ReluCell, TanhCell, LnReluCell, GruCell, GruTanhCell, LstmCell, HalfGruCell>;

}  // namespace crnn
