"""A net that hands a state from batch to batch and reads a shuffled list of images."""

from pathlib import Path

from crnn.testing import golden

NET = """
layer { name: "in" type: "ImageData" top: "x" top: "t" transform_param { scale: 0.004 mirror: true }
  image_data_param { source: "list.txt" batch_size: 6 new_height: 4 new_width: 4 shuffle: true } }
layer { name: "one" type: "DummyData" top: "cont"
  dummy_data_param { shape { dim: 3 dim: 2 } data_filler { value: 1 } } }
layer { name: "steps" type: "Reshape" bottom: "x" top: "s"
  reshape_param { shape { dim: 3 dim: 2 dim: -1 } } }
layer { name: "rnn" type: "LSTM" bottom: "s" bottom: "cont" top: "h"
  recurrent_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "fc" type: "InnerProduct" bottom: "h" top: "y"
  inner_product_param { num_output: 1 axis: 2 weight_filler { type: "xavier" } } }
layer { name: "t" type: "Reshape" bottom: "t" top: "t_" reshape_param { shape { dim: 3 dim: 2 dim: 1 } } }
layer { name: "l" type: "EuclideanLoss" bottom: "y" bottom: "t_" top: "l" }
"""


def written() -> dict:
    """Writes list and net into the current folder; the solver's fields for it."""
    images = sorted(path for path in golden("tools/images").rglob("*.*") if path.is_file())
    Path("list.txt").write_text("".join(f"{path} {i % 3}\n" for i, path in enumerate(images)))
    Path("sequence.prototxt").write_text(NET)
    return {"net": '"sequence.prototxt"', "base_lr": 0.1}
