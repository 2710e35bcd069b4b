"""Nets that the real Caffe refuses (it ends its process) and that must be an error here."""

SHAPES = {"x": (2, 3, 4, 5), "v": (2, 3), "t": (2,), "s": (1,)}


def one(layer_type: str, text: str = "", bottoms: str = "x", tops: str = "y") -> str:
    """A net with one layer on inputs x [2, 3, 4, 5], v [2, 3], t [2], s [1]."""
    inputs = [
        f'layer {{ name: "{n}" type: "Input" top: "{n}" input_param {{ shape {{ '
        + " ".join(f"dim: {size}" for size in shape)
        + " } } }"
        for n, shape in SHAPES.items()
    ]
    names = [f'bottom: "{b}"' for b in bottoms.split()] + [f'top: "{t}"' for t in tops.split()]
    return "\n".join([*inputs, f'layer {{ name: "l" type: "{layer_type}" {" ".join(names)} {text} }}'])


NETS = {
    "AbsVal in place": one("AbsVal", tops="x"),
    "Accuracy top_k beyond the classes": one("Accuracy", "accuracy_param { top_k: 4 }", "v t"),
    "ArgMax top_k beyond the values": one("ArgMax", "argmax_param { top_k: 61 }"),
    "ArgMax top_k beyond the axis": one("ArgMax", "argmax_param { axis: 1 top_k: 4 }"),
    "BatchReindex by a matrix": one("BatchReindex", bottoms="x v"),
    "Bias past the last axis": one("Bias", "bias_param { axis: 3 num_axes: 2 }"),
    "Concat of unlike bottoms": one("Concat", bottoms="x v"),
    "ContrastiveLoss of maps": one("ContrastiveLoss", bottoms="x x t"),
    "Convolution without a kernel": one("Convolution", "convolution_param { num_output: 2 }"),
    "Convolution in groups that do not divide": one(
        "Convolution", "convolution_param { num_output: 4 group: 2 kernel_size: 1 }"
    ),
    "Crop larger than its bottom": one("Crop", "crop_param { axis: 1 offset: 1 }", "v v"),
    "Crop with too many offsets": one("Crop", "crop_param { offset: 0 offset: 0 offset: 0 }", "x x"),
    "Deconvolution without outputs": one("Deconvolution", "convolution_param { kernel_size: 2 }"),
    "Eltwise of unlike bottoms": one("Eltwise", bottoms="x v"),
    "Embed without a vocabulary": one("Embed", "embed_param { num_output: 3 }", "t"),
    "EuclideanLoss of unlike bottoms": one("EuclideanLoss", bottoms="x v"),
    "Exp with a negative base": one("Exp", "exp_param { base: -2 }"),
    "Filter with too few tops": one("Filter", bottoms="x v t"),
    "Filter with a selector of another size": one("Filter", bottoms="x s"),
    "InfogainLoss without a matrix": one("InfogainLoss", bottoms="v t"),
    "InnerProduct past the last axis": one("InnerProduct", "inner_product_param { num_output: 2 axis: 4 }"),
    "LRN of an even size": one("LRN", "lrn_param { local_size: 4 }"),
    "LSTM without outputs": one("LSTM", bottoms="x v"),
    "LSTM with cont of another length": one("LSTM", "recurrent_param { num_output: 2 }", "x t"),
    "Log to the base 1": one("Log", "log_param { base: 1 }"),
    "MemoryData without a size": one("MemoryData", "memory_data_param { batch_size: 2 }", "", "y z"),
    "MultinomialLogisticLoss of too many labels": one("MultinomialLogisticLoss", bottoms="v x"),
    "PReLU of a vector": one("PReLU", bottoms="t"),
    "Pooling padded beyond the kernel": one("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"),
    "Reduction past the last axis": one("Reduction", "reduction_param { axis: 5 }"),
    "Reshape to another number": one("Reshape", "reshape_param { shape { dim: 7 } }"),
    "SPP of a small map": one("SPP", "spp_param { pyramid_height: 4 }"),
    "Scale by an unlike bottom": one("Scale", bottoms="x v", text="scale_param { axis: 1 }"),
    "SigmoidCrossEntropyLoss of unlike bottoms": one("SigmoidCrossEntropyLoss", bottoms="x v"),
    "Slice into parts that do not divide": one("Slice", tops="a b"),
    "SoftmaxWithLoss of too few labels": one("SoftmaxWithLoss", bottoms="x t"),
    "Tile without a number": one("Tile"),
    "a missing bottom": one("ReLU", bottoms="z"),
    "a top made twice": one("ReLU", tops="v"),
    "an unknown layer type": one("Rectifier"),
    "too many bottoms": one("ReLU", bottoms="x v"),
}
