"""Small nets as text."""

import pytest

#: Two inputs, one InnerProduct, EuclideanLoss; `{}` takes fields of the layer "fc".
SIMPLE = """
name: "simple"
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 4 dim: 3 }} }} }}
layer {{ name: "target" type: "Input" top: "target" input_param {{ shape {{ dim: 4 dim: 2 }} }} }}
layer {{ name: "fc" type: "InnerProduct" bottom: "data" top: "fc" {}
  inner_product_param {{ num_output: 2 weight_filler {{ type: "gaussian" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "target" top: "loss" }}
"""


@pytest.fixture
def simple():
    """simple("fields of fc") -> prototxt."""
    return lambda fields="": SIMPLE.format(fields)
