"""The extension asks of torch and Python only what no later version takes away (`make abi` shows it)."""

import importlib.util
import re
import shutil
import subprocess

import pytest

STABLE = re.compile(r"(aoti_torch|torch)_[a-z_0-9]+")  # torch's C shim
TORCH_CPP = re.compile(r"_Z\w*?(2at|3c10|5torch|5caffe2)\w*")  # its C++ names, which change with its versions


@pytest.fixture(scope="module", params=["crnn._C", "crnn._C_cuda"])
def binary(request):
    """The file of a compiled module."""
    spec = importlib.util.find_spec(request.param)
    if spec is None:
        pytest.skip(f"needs a machine on which {request.param} was built")
    return spec.origin


@pytest.fixture(scope="module")
def wanted(binary):
    """The symbols that it takes from other libraries, without their versions."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm, of binutils")
    told = subprocess.run(
        ["nm", "-D", "--undefined-only", binary], capture_output=True, text=True, check=True
    )
    return {line.split()[-1].split("@")[0] for line in told.stdout.splitlines()}


def test_nothing_of_torchs_cpp_interface(wanted):
    assert not [name for name in wanted if TORCH_CPP.match(name)]


def test_torch_is_reached_through_its_c_shim(wanted):
    assert {"torch_library_impl", "aoti_torch_get_size"} <= {
        name for name in wanted if STABLE.fullmatch(name)
    }


def test_of_python_the_limited_api_alone(wanted):
    python = {name for name in wanted if re.match(r"_?Py", name)}
    assert python == {"PyModule_Create2"}


def test_the_binary_is_named_for_every_python(binary):
    assert binary.endswith(".abi3.so")
