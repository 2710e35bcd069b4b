// The part of NVIDIA's cublasLt that product.cpp uses, declared here so that neither its headers nor its
// library are needed to build. Names, values and sizes: cublasLt.h of CUDA 12 and 13, which agree; the test
// tests/cuda/test_cublaslt.py compares them with the header where one is installed.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crnn::cublaslt {

using Status = int;
constexpr Status kSuccess = 0;        // CUBLAS_STATUS_SUCCESS
constexpr Status kInvalidValue = 7;   // CUBLAS_STATUS_INVALID_VALUE
constexpr Status kNotSupported = 15;  // CUBLAS_STATUS_NOT_SUPPORTED

// cudaDataType
constexpr int kR32F = 0, kR64F = 1, kR16F = 2, kR16BF = 14;
// cublasComputeType_t
constexpr int kCompute32F = 68, kCompute64F = 70, kCompute32FFastTf32 = 77;
// cublasOperation_t
constexpr int32_t kOpN = 0, kOpT = 1;
// cublasLtEpilogue_t: nothing more; relu; zero where a bit of the mask is 0
constexpr uint32_t kEpilogueDefault = 1, kEpilogueRelu = 2, kEpilogueDRelu = 8 | 128;
// cublasLtMatrixLayoutAttribute_t
constexpr int kLayoutBatchCount = 5, kLayoutStridedBatchOffset = 6;
// cublasLtMatmulDescAttributes_t. The mask's row of a column of D is a whole number of 128 bits; bit i % 8 of
// byte i / 8 is row i of D.
constexpr int kDescTransA = 3, kDescEpilogue = 7, kDescAuxPointer = 11, kDescAuxLd = 12,
              kDescAuxBatchStride = 13;
// cublasLtMatmulPreferenceAttributes_t; the alignments of A, B, C, D follow one another
constexpr int kPreferenceWorkspaceBytes = 1, kPreferenceAlignmentA = 5;

using Handle = void*;  // opaque: the library makes and reads what these point to
using Layout = void*;
using Desc = void*;
using Preference = void*;
using Stream = void*;

struct Algo {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};
struct HeuristicResult {  // cublasLtMatmulHeuristicResult_t
  Algo algo;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

// The library's functions. Matrices are column-major: A op(A) B of [rows, inner] x [inner, columns].
struct Library {
  Status (*create)(Handle*);
  const char* (*status_string)(Status);
  Status (*layout_create)(Layout*, int type, uint64_t rows, uint64_t columns, int64_t leading);
  Status (*layout_destroy)(Layout);
  Status (*layout_set)(Layout, int attribute, const void* value, size_t bytes);
  Status (*desc_create)(Desc*, int compute, int scale_type);
  Status (*desc_destroy)(Desc);
  Status (*desc_set)(Desc, int attribute, const void* value, size_t bytes);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference, int wanted,
      HeuristicResult*, int* found);
  Status (*matmul)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout,
      const void* beta, const void* c, Layout, void* d, Layout, const Algo*, void* workspace,
      size_t workspace_bytes, Stream);
};

// The library in this process, or null where there is none: cublaslt_library.cpp.
const Library* library();

}  // namespace crnn::cublaslt
