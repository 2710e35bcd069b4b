"""ScaleRNN and ImagePyramid: recurrence over the scales of an image (SRNN: Zhang 2018)."""

from torch import Tensor

from crnn.ops.scales import CELLS, check_scales, pyramid, resize, scale_rnn
from crnn.proto import pb

from .base import Layer, check_axes, check_count, register

IDENTITY = pb.FillerParameter(type="identity")


@register("ScaleRNN")
class ScaleRNN(Layer):
    """h_s = relu(x_s + U h_{s-1}) over n scales, or the half-GRU (Zhang 2018, eq. 1 and 2).

    bottom[0 ... n-1]: x_s [N, D] (or [N, D, 1, 1]), the smallest scale first; with `counted` one bottom more:
                       how many of the scales each image has, [N].
    top:               h_n [N, D]; or n tops: h_1 ... h_n, after each of which one can stop. An image keeps
                       its last state beyond the scales it has.
    blobs:             U [D, D]; half_gru: also W_z, U_z [D, D]. U starts as the identity, the others as 0.
    """

    bottoms = (1, None)
    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = param.scale_rnn_param
        if p.cell not in CELLS:
            raise ValueError(f"unknown cell {p.cell!r}; known: {', '.join(CELLS)}")
        self.counted = p.counted
        *features, _ = [*bottom_shapes, None] if not p.counted else bottom_shapes
        if not features:
            raise ValueError("with counted it takes a bottom a scale and then the counts, got 1 bottom")
        if len(param.top) != 1:
            check_count("top", len(param.top), (len(features),) * 2)
        N, D = features[0][:2]
        for shape in features:
            if len(shape) not in (2, 4) or tuple(shape) not in ((N, D), (N, D, 1, 1)):
                raise ValueError(f"the features of every scale must be {[N, D]}, got {list(shape)}")
        if p.counted and tuple(bottom_shapes[-1]) != (N,):
            raise ValueError(f"the counts must be {[N]}, got {list(bottom_shapes[-1])}")
        self.add_blob((D, D), p.recurrent_filler if p.HasField("recurrent_filler") else IDENTITY)
        if CELLS[p.cell]:
            self.add_blob((D, D), p.gate_filler)
            self.add_blob((D, D), p.gate_filler)
        self.top_shapes = [(N, D)] * len(param.top)

    def forward(self, *bottoms):
        features, count = (bottoms[:-1], bottoms[-1]) if self.counted else (bottoms, None)
        h = self.states(features, count)
        return tuple(h.unbind(0)) if len(self.top_shapes) > 1 else (h[-1],)

    def states(self, features, count=None) -> Tensor:
        return scale_rnn([x.flatten(1) for x in features], *self.blobs, count=count)

    def state(self, features, count=None) -> Tensor:
        """h_s [N, D], when only the first s scales have been seen: all that `features` holds."""
        return self.states(features, None if count is None else count.clamp(max=len(features)))[-1]


@register("ImagePyramid")
class ImagePyramid(Layer):
    """The images at several sizes, bicubically resized (Zhang 2018, section 4).

    bottom[0]: [N, C, H, W], at least as large as the smallest scale.
    bottom[1]: if given, the height and width [N, 2] of each image, which lies in the top left of bottom[0].
    top[i]:    [N, C, s, s] for the i-th `scale` s; they rise.
    With bottom[1] an image has the scales that its shorter side holds, zeros for the others, and the last top
    is how many it has, [N]: what a ScaleRNN with `counted` reads.
    """

    bottoms = (1, 2)
    tops = (1, None)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        check_axes(bottom_shapes[0], 4)
        self.scales = list(param.image_pyramid_param.scale)
        check_scales(self.scales)
        N, C = bottom_shapes[0][:2]
        self.top_shapes = [(N, C, s, s) for s in self.scales]
        if len(bottom_shapes) == 1:
            self.check_size(bottom_shapes[0])
        else:
            if tuple(bottom_shapes[1]) != (N, 2):
                raise ValueError(f"the sizes of the images must be {[N, 2]}, got {list(bottom_shapes[1])}")
            self.top_shapes.append((N,))
        check_count("top", len(param.top), (len(self.top_shapes),) * 2)

    def check_size(self, shape) -> None:
        if min(shape[2:]) < self.scales[0]:
            raise ValueError(
                f"images of {shape[2]} x {shape[3]} are smaller than the smallest scale {self.scales[0]}: "
                "enlarge them or begin with a smaller scale"
            )

    def forward(self, x, sizes=None):
        if sizes is None:
            self.check_size(x.shape)
            return tuple(resize(x, s) for s in self.scales)
        images = []
        for i, (h, w) in enumerate(sizes.long().tolist()):
            if h > x.shape[2] or w > x.shape[3]:
                raise ValueError(f"image {i} is said to be {h} x {w} and lies in {x.shape[2]} x {x.shape[3]}")
            images.append(x[i, :, :h, :w])
        levels, count = pyramid(images, self.scales)
        return (*levels, count.to(x.dtype))
