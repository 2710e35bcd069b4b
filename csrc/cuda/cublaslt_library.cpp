// Finds cublasLt at run time: the one that torch has loaded, else the one on the library path.
#include <dlfcn.h>

#include <initializer_list>

#include "cublaslt.h"

namespace crnn::cublaslt {
namespace {

void* open() {
  for (const int flags : {RTLD_LAZY | RTLD_NOLOAD, RTLD_LAZY})
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"})
      if (void* found = dlopen(name, flags)) return found;
  return nullptr;
}

template <typename Function>
bool find(void* in, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(in, name));
  return function;
}

bool fill(Library& l) {
  void* in = open();
  return in && find(in, "cublasLtCreate", l.create) && find(in, "cublasLtGetStatusString", l.status_string) &&
         find(in, "cublasLtMatrixLayoutCreate", l.layout_create) &&
         find(in, "cublasLtMatrixLayoutDestroy", l.layout_destroy) &&
         find(in, "cublasLtMatrixLayoutSetAttribute", l.layout_set) &&
         find(in, "cublasLtMatmulDescCreate", l.desc_create) &&
         find(in, "cublasLtMatmulDescDestroy", l.desc_destroy) &&
         find(in, "cublasLtMatmulDescSetAttribute", l.desc_set) &&
         find(in, "cublasLtMatmulPreferenceCreate", l.preference_create) &&
         find(in, "cublasLtMatmulPreferenceDestroy", l.preference_destroy) &&
         find(in, "cublasLtMatmulPreferenceSetAttribute", l.preference_set) &&
         find(in, "cublasLtMatmulAlgoGetHeuristic", l.heuristic) && find(in, "cublasLtMatmul", l.matmul);
}

}  // namespace

const Library* library() {
  static Library filled;
  static const bool found = fill(filled);
  return found ? &filled : nullptr;
}

}  // namespace crnn::cublaslt
