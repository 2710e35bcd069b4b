// Every op's schema, in one place. What the arguments mean: crnn/ops.
#include <Python.h>
#include <torch/csrc/stable/library.h>

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C(void) {
  // An empty module: importing it loads this library, which registers the ops.
  static PyModuleDef def = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  return PyModule_Create(&def);
}

STABLE_TORCH_LIBRARY(crnn, m) {
  m.def(
      "scan(Tensor z, Tensor whh, Tensor? cell_params, Tensor? initial, Tensor? cont, int[] plan, str cell, "
      "str variant=\"\") -> (Tensor state, Tensor saved)");
  m.def(
      "scan_backward(Tensor dstate, Tensor whh, Tensor? cell_params, Tensor? initial, Tensor? cont, Tensor "
      "state, "
      "Tensor saved, int[] plan, str cell, str variant=\"\") "
      "-> (Tensor dz, Tensor dcell_params, Tensor dinitial)");
  m.def(
      "scan_whole_backward(Tensor dstate, Tensor whh, Tensor? cell_params, Tensor? initial, Tensor? cont, "
      "Tensor state, Tensor saved, int[] plan, str cell, str variant=\"\") "
      "-> (Tensor dz, Tensor dcell_params, Tensor dinitial, Tensor dwhh)");
  m.def(
      "spatial_scan(Tensor x, Tensor? w_ih, Tensor? bias, Tensor whh, Tensor? cell_params, int[] plan, "
      "str cell, str combine, str variant=\"\", bool states=True) -> (Tensor y, Tensor state, Tensor saved)");
  m.def(
      "lrn(Tensor x, int size, float alpha, float beta, float k, bool within, str variant=\"\") -> Tensor y");
  m.def(
      "lrn_backward(Tensor dy, Tensor x, int size, float alpha, float beta, float k, bool within, "
      "str variant=\"\") -> Tensor dx");
  m.def("transposed(Tensor x) -> Tensor y");
  m.def("inner_product(Tensor x, Tensor weight, str variant=\"\") -> Tensor y");
  m.def("inner_product_input_backward(Tensor dy, Tensor weight, str variant=\"\") -> Tensor dx");
  m.def("inner_product_weights_backward(Tensor dy, Tensor x, str variant=\"\") -> Tensor dw");
  m.def(
      "update(Tensor(a!)[] blobs, Tensor[] grads, Tensor(b!)[] history, str rule, float[] numbers, "
      "float rate, float decay, bool l1, float scale, str variant=\"\") -> ()");
}
