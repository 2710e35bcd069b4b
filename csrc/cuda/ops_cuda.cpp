// Every op's CUDA kernel under its schema (csrc/ops.cpp), and PyInit__C_cuda; nothing else.
#include <Python.h>
#include <torch/csrc/stable/library.h>

#include "lrn_cuda.h"
#include "scan_cuda.h"
#include "spatial_cuda.h"
#include "update_cuda.h"

extern "C" __attribute__((visibility("default"))) PyObject* PyInit__C_cuda(void) {
  // An empty module: importing it loads this library, which registers the kernels.
  static PyModuleDef def = {PyModuleDef_HEAD_INIT, "_C_cuda", nullptr, -1, nullptr};
  return PyModule_Create(&def);
}

STABLE_TORCH_LIBRARY_IMPL(crnn, CUDA, m) {
  m.impl("scan", TORCH_BOX(&crnn::scan_cuda));
  m.impl("scan_backward", TORCH_BOX(&crnn::scan_backward_cuda));
  m.impl("spatial_scan", TORCH_BOX(&crnn::spatial_scan_cuda));
  m.impl("lrn", TORCH_BOX(&crnn::lrn_cuda));
  m.impl("lrn_backward", TORCH_BOX(&crnn::lrn_backward_cuda));
  m.impl("update", TORCH_BOX(&crnn::update_cuda));
}
