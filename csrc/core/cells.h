// Recurrent cells: the pointwise half of one step, shared by every compiled backend.
//
// A cell sees one channel d of one sequence at one step:
//     in[g]   = z_s[g, d]                input pre-activation of gate g (W_ih x_s + b)
//     rec[g]  = (W_hh h_{s-1})[g, d]     recurrent pre-activation of gate g
//     prev[j] = state j of step s-1; state 0 is h, the one that W_hh multiplies
// and gives the new states. `saved` is what backward needs and cannot cheaply rebuild.
// backward gets the states of both steps and dstate[j], and gives din[g] = d in[g] and dprev[j]: the part of
// d prev[j] that does not go through W_hh. kSameGrad says that d rec[g] == d in[g]; else it gives drec too.
// To add a cell: a struct here, its torch twin in crnn/ops/reference.py, its name in `Cells`.
#pragma once

#include <cmath>
#include <string_view>

#include "plan.h"

namespace crnn {

struct ReluCell {  // h = max(0, in + rec)                                   Zuo 2015, eq. 3-6
  static constexpr std::string_view kName = "relu";
  static constexpr int kGates = 1, kStates = 1, kSaved = 0;
  static constexpr bool kSameGrad = true;

  template <typename T>
  CRNN_HD static void forward(const T* in, const T* rec, const T*, T* state, T*) {
    const T a = in[0] + rec[0];
    state[0] = a < T(0) ? T(0) : a;  // NaN stays NaN, as in torch.relu
  }
  template <typename T>
  CRNN_HD static void backward(const T* state, const T*, const T*, const T* dstate, T* din, T*, T*) {
    din[0] = state[0] > T(0) ? dstate[0] : T(0);
  }
};

struct TanhCell {  // h = tanh(in + rec)                                     Caffe: RNNLayer
  static constexpr std::string_view kName = "tanh";
  static constexpr int kGates = 1, kStates = 1, kSaved = 0;
  static constexpr bool kSameGrad = true;

  template <typename T>
  CRNN_HD static void forward(const T* in, const T* rec, const T*, T* state, T*) {
    state[0] = std::tanh(in[0] + rec[0]);
  }
  template <typename T>
  CRNN_HD static void backward(const T* state, const T*, const T*, const T* dstate, T* din, T*, T*) {
    din[0] = dstate[0] * (T(1) - state[0] * state[0]);
  }
};

// The one list of cells. A cell is dispatched by name; the names are the ones of Python and of the prototxt.
template <typename... Cell>
struct CellList {
  // Calls visit(Cell{}) for the cell called `name`; false where there is none.
  template <typename Visit>
  static bool visit(std::string_view name, Visit&& visit) {
    return ((name == Cell::kName ? (visit(Cell{}), true) : false) || ...);
  }
};
using Cells = CellList<ReluCell, TanhCell>;

}  // namespace crnn
