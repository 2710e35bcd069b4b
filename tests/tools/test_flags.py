"""Caffe's flag style."""

import argparse

import pytest
import torch

from crnn.tools import flags


@pytest.mark.parametrize(
    "given, wanted",
    [
        (["-solver", "s.prototxt"], ["--solver", "s.prototxt"]),
        (["--solver=s_1.prototxt"], ["--solver=s_1.prototxt"]),
        (["-sigint_effect=stop"], ["--sigint-effect=stop"]),
        (["--sighup-effect", "none"], ["--sighup-effect", "none"]),
        (["-gpu", "-1"], ["--gpu", "-1"]),
        (["-mean", "-1.5,2,-3"], ["--mean=-1.5,2,-3"]),
        (["-mean=1", "-1,2"], ["--mean=1", "-1,2"]),
        (["-h"], ["-h"]),
        (["root_dir/", "-gray", "a_b"], ["root_dir/", "--gray", "a_b"]),
        (["--", "-gray"], ["--", "-gray"]),
        (["-weights=a=b_c"], ["--weights=a=b_c"]),
    ],
)
def test_normalise(given, wanted):
    assert flags.normalise(given) == wanted


@pytest.mark.parametrize(
    "given, wanted",
    [
        (["-check_size=true"], ["--check-size"]),
        (["-check_size=false"], []),
        (["-nocheck_size"], []),
        (["-gray", "x"], ["--gray", "x"]),
        (["-notes"], ["--notes"]),
    ],
)
def test_boolean_flags(given, wanted):
    assert flags.normalise(given, booleans=("gray", "check-size")) == wanted


def test_a_boolean_flag_of_another_value():
    with pytest.raises(ValueError, match="--gray is true or false, got 'maybe'"):
        flags.normalise(["-gray=maybe"], booleans=("gray",))


def test_normalised_flags_fit_argparse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--sigint-effect")
    assert parser.parse_args(flags.normalise(["-sigint_effect", "stop"])).sigint_effect == "stop"


def test_comma_list():
    assert flags.comma_list("a,b,") == ["a", "b"]


def test_device_without_the_flag_is_the_cpu():
    assert flags.device(None) == torch.device("cpu")


def test_gpu_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="-gpu 0: torch finds no CUDA device here; leave -gpu out"):
        flags.device("0")


@pytest.mark.parametrize("gpu, found, device", [("1", 2, "cuda:1"), ("all", 1, "cuda:0")])
def test_gpu(monkeypatch, gpu, found, device):
    pretend(monkeypatch, found)
    assert flags.device(gpu) == torch.device(device)


@pytest.mark.parametrize(
    "gpu, message", [("2", "no such device; there are 2"), ("all", "2 devices"), ("0,1", "2 devices")]
)
def test_gpus_that_are_refused(monkeypatch, gpu, message):
    pretend(monkeypatch, 2)
    with pytest.raises(ValueError, match=message):
        flags.device(gpu)


def pretend(monkeypatch, devices):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)


def test_text_that_is_not_utf8_is_named(tmp_path):
    names = tmp_path / "words.txt"
    names.write_bytes("café\nthé\n".encode())
    assert flags.text_lines(names) == ["café", "thé"]
    names.write_bytes("café\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"words\.txt is not text in UTF-8 \(byte 3\): convert it"):
        flags.text_lines(names)


def test_where_a_file_is_to_go_is_looked_at_before(tmp_path):
    flags.check_out("--save", None)
    flags.check_out("--save", tmp_path / "a.npz")
    with pytest.raises(OSError, match=r"--save .*/no/a.npz: there is no folder .*/no; create it first"):
        flags.check_out("--save", tmp_path / "no" / "a.npz")
    with pytest.raises(OSError, match=r"--html .* is a folder: name a file in it"):
        flags.check_out("--html", tmp_path)
