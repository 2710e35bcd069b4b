"""Products (csrc/cuda/product.cpp) by the stand-in for cublasLt; our declarations against NVIDIA's header."""

import shutil
import site
import subprocess
from pathlib import Path

import pytest
import torch

from crnn.testing import ROOT

FLOATS = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def product(emulated):
    def call(out, w, rows, added=None, mask=None, reverse=False, relu=False, tf32=False, alignment=2):
        torch.ops.crnn_emulator.product(out, w, rows, added, mask, reverse, relu, tf32, alignment)
        return out

    return call


def normal(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64).to(
        dtype
    )


def test_by_hand(product):
    """W has the rows (3, 4), (5, 6), (7, 8): (1, 2) times its transpose, and (1, 2, 3) times it."""
    w = torch.tensor([[[3.0, 4], [5, 6], [7, 8]]])
    assert product(torch.empty(1, 1, 3), w, torch.tensor([[[1.0, 2]]])).tolist() == [[[11, 17, 23]]]
    assert product(torch.empty(1, 1, 2), w, torch.tensor([[[1.0, 2, 3]]]), reverse=True).tolist() == [
        [[34, 40]]
    ]


@pytest.mark.parametrize("result", ["float", "own"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.float64], ids=str)
def test_a_batch_of_strided_rows(product, dtype, reverse, result):
    """Rows and matrices further apart than they are long, as gates in W_hh and samples in z are."""
    w = normal(3, 12, 7, dtype=dtype)[:, 2:10]
    rows = normal(3, 5, 9, dtype=dtype)[:, :, : 8 if reverse else 7]
    kind = torch.float32 if result == "float" and dtype != torch.float64 else dtype
    outer = 7 if reverse else 8
    added, out = normal(3, 5, 11).to(kind)[:, :, :outer], torch.zeros(3, 5, 13, dtype=kind)
    product(out[:, :, :outer], w, rows, added, reverse=reverse)
    want = (
        torch.einsum("brj,bji->bri" if reverse else "bri,bji->brj", rows.double(), w.double())
        + added.double()
    )
    torch.testing.assert_close(out[:, :, :outer].double(), want.to(kind).double(), rtol=1e-2, atol=1e-2)
    assert not out[:, :, outer:].any()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_relu_of_the_sum_in_place(product, dtype):
    w, rows, z = (normal(2, n, 16, dtype=dtype) for n in (16, 3, 3))
    want = (torch.einsum("bri,bji->brj", rows.double(), w.double()) + z.double()).relu()
    got = product(z, w, rows, z, relu=True)
    torch.testing.assert_close(got.double(), want, rtol=1e-2, atol=1e-2)


def test_the_mask_is_a_bit_a_channel_in_rows_of_whole_sixteen_bytes(product):
    """Channels 0, 9 and 130 of the first row, none of the second: bits 1, 2 and 4 of bytes 0, 1 and 16."""
    mask = torch.zeros(1, 2, 32, dtype=torch.uint8)
    mask[0, 0, 0], mask[0, 0, 1], mask[0, 0, 16] = 1, 2, 4
    dstate, w, rows = torch.ones(1, 2, 132), torch.zeros(1, 132, 132), torch.ones(1, 2, 132)
    got = product(torch.empty(1, 2, 132), w, rows, dstate, mask, reverse=True)
    assert got.nonzero().tolist() == [[0, 0, 0], [0, 0, 9], [0, 0, 130]]


def test_tf32_rounds_the_operands(product):
    near = torch.tensor([[[1 + 2**-12]]])
    got = [product(torch.empty(1, 1, 1), near, near, tf32=allowed).item() for allowed in (True, False)]
    assert got == [1, 1 + 2**-11]


@pytest.mark.parametrize("what", ["relu in double", "a mask of eight bytes a row", "rows that overlap"])
def test_what_the_documentation_excludes_is_refused(product, what):
    dtype = torch.float64 if what == "relu in double" else torch.float32
    w, rows, out = (normal(1, 4, 4, dtype=dtype) for _ in range(3))
    mask = torch.zeros(1, 4, 8, dtype=torch.uint8) if "mask" in what else None
    if "overlap" in what:
        rows = rows.as_strided((1, 4, 4), (16, 2, 1))
    with pytest.raises(RuntimeError, match="no algorithm"):
        product(out, w, rows, None, mask, relu=dtype == torch.float64)


def test_an_operand_less_aligned_than_was_promised_is_an_error(product):
    w = torch.ones(1, 4, 4)
    odd = torch.ones(17)[1:].view(1, 4, 4)
    with pytest.raises(RuntimeError, match="cublasLtMatmul failed: an unsupported value"):
        product(torch.empty(1, 4, 4), w, odd, alignment=16)


COMPARED = """
#include <cublasLt.h>
#include "cublaslt.h"
using namespace crnn::cublaslt;
static_assert(kSuccess == CUBLAS_STATUS_SUCCESS && kInvalidValue == CUBLAS_STATUS_INVALID_VALUE);
static_assert(kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED && sizeof(Status) == sizeof(cublasStatus_t));
static_assert(kR32F == CUDA_R_32F && kR64F == CUDA_R_64F && kR16F == CUDA_R_16F && kR16BF == CUDA_R_16BF);
static_assert(kCompute32F == CUBLAS_COMPUTE_32F && kCompute64F == CUBLAS_COMPUTE_64F);
static_assert(kCompute32FFastTf32 == CUBLAS_COMPUTE_32F_FAST_TF32);
static_assert(sizeof(cublasComputeType_t) == sizeof(int));
static_assert(kOpN == CUBLAS_OP_N && kOpT == CUBLAS_OP_T && sizeof(cudaDataType) == sizeof(int));
static_assert(kEpilogueDefault == CUBLASLT_EPILOGUE_DEFAULT && kEpilogueRelu == CUBLASLT_EPILOGUE_RELU);
static_assert(kEpilogueDRelu == CUBLASLT_EPILOGUE_DRELU && sizeof(cublasLtEpilogue_t) == sizeof(uint32_t));
static_assert(kLayoutBatchCount == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
static_assert(kLayoutStridedBatchOffset == CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
static_assert(kDescTransA == CUBLASLT_MATMUL_DESC_TRANSA && kDescEpilogue == CUBLASLT_MATMUL_DESC_EPILOGUE);
static_assert(kDescAuxPointer == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER);
static_assert(kDescAuxLd == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD);
static_assert(kDescAuxBatchStride == CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE);
static_assert(kPreferenceWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(kPreferenceAlignmentA == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(kPreferenceAlignmentA + 3 == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(sizeof(Algo) == sizeof(cublasLtMatmulAlgo_t));
using Theirs = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(HeuristicResult) == sizeof(Theirs));
static_assert(offsetof(HeuristicResult, algo) == offsetof(Theirs, algo));
static_assert(offsetof(HeuristicResult, workspace_bytes) == offsetof(Theirs, workspaceSize));
static_assert(offsetof(HeuristicResult, state) == offsetof(Theirs, state));
"""


def test_our_declarations_are_those_of_the_header(tmp_path):
    nvcc = shutil.which("nvcc")
    homes = [Path("/usr/local/cuda/include"), *(Path(p) / "nvidia" for p in site.getsitepackages())]
    found = next((f.parent for home in homes for f in home.rglob("cublasLt.h")), None)
    if not (nvcc and found):
        pytest.skip("needs nvcc and cublasLt.h: a CUDA toolkit, or PyPI's nvidia-cublas")
    source = tmp_path / "compared.cu"
    source.write_text(COMPARED)
    command = [nvcc, "-std=c++20", f"-I{found}", f"-I{ROOT / 'csrc' / 'cuda'}", "-c", source]
    result = subprocess.run(
        [*command, "-o", tmp_path / "compared.o"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
