"""ImageData, WindowData, HDF5Data, HDF5Output: batches from files, and into one.

Caffe: src/caffe/layers/{image_data,window_data,hdf5_data,hdf5_output}_layer.cpp. The readers are in crnn.data
and come with the layer, so that a net without them needs neither OpenCV nor h5py.
"""

import numpy as np
import torch

from .base import Layer, register
from .data import Source


class FileSource(Source):
    """What gives the batches of its `loader`, as numpy arrays: the net places them on its device."""

    tops = (2, 2)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        p = getattr(param, self.field)
        if not p.source:
            raise ValueError(f"{self.field}.source is missing: {self.source_is}")
        if p.batch_size < 1:
            raise ValueError(f"{self.field}.batch_size must be at least 1")
        # torch.manual_seed decides the draws, as everywhere.
        self.loader = self.open(p, param, torch.randint(2**31, ()).item())
        self.top_shapes = [tuple(shape) for shape in self.loader.top_shapes]

    def forward(self):
        return self.loader.next()


@register("ImageData")
class ImageData(FileSource):
    """Images named by the lines `path label` of a text file, in their order or with `shuffle`, over and over.

    top[0]: images [N, C, h, w], resized to new_height × new_width if given, after transform_param; without
            new_height and crop_size as large as the batch's images.    top[1]: labels [N].
    """

    field, source_is = "image_data_param", "a text file with a line `path label` for each image"

    def open(self, p, param, seed):
        from crnn.data.image_list import ImageList, ImageLoader

        if bool(p.new_height) != bool(p.new_width):
            raise ValueError(f"new_height {p.new_height} and new_width {p.new_width} go together")
        size = (p.new_height, p.new_width) if p.new_height else None
        images = ImageList(p.source, p.root_folder, size, p.is_color)
        return ImageLoader(
            images, p.batch_size, param.transform_param, param.phase, seed, p.rand_skip, p.shuffle
        )


@register("WindowData")
class WindowData(FileSource):
    """Windows of images drawn at random, background and foreground in the proportion fg_fraction (R-CNN).

    top[0]: windows [N, 3, crop_size, crop_size], warped, less the mean, scaled by window_data_param.scale.
    top[1]: labels [N]; 0 is background. The file's format: crnn.data.windows.WindowFile.
    """

    field, source_is = "window_data_param", "a window file"

    def open(self, p, param, seed):
        from crnn.data.windows import WindowLoader

        return WindowLoader(p, param.transform_param, seed)


@register("HDF5Data")
class HDF5Data(FileSource):
    """Rows of HDF5 files, in order or with `shuffle`, over and over; the files are listed in a text file.

    top[i]: [batch_size, ...], the data set that has the top's name.
    """

    tops = (1, None)
    field, source_is = "hdf5_data_param", "a text file with the name of an HDF5 file a line"

    def open(self, p, param, seed):
        from crnn.data.hdf5 import HDF5Files, HDF5Loader

        if param.HasField("transform_param"):
            raise ValueError("HDF5 data are not transformed: remove transform_param")
        return HDF5Loader(HDF5Files(p.source, param.top), p.batch_size, seed, p.shuffle)


@register("HDF5Output")
class HDF5Output(Layer):
    """Writes its bottoms to the data sets "data" and "label" of a new HDF5 file, as [N, C, H, W].

    bottom[0], bottom[1]: [N, ...] of at most 4 axes; missing axes are 1.    No top.
    Batch after batch is appended, where Caffe fails at the second. The net begins the file anew.
    """

    bottoms = (2, 2)
    tops = (0, 0)

    def __init__(self, param, bottom_shapes):
        super().__init__(param, bottom_shapes)
        if any(not 1 <= len(shape) <= 4 for shape in bottom_shapes):
            raise ValueError(f"needs bottoms of 1 to 4 axes, got {[list(shape) for shape in bottom_shapes]}")
        if bottom_shapes[0][0] != bottom_shapes[1][0]:
            raise ValueError(f"needs bottoms of as many rows, got {[list(shape) for shape in bottom_shapes]}")
        if not param.hdf5_output_param.file_name:
            raise ValueError("hdf5_output_param.file_name is missing")
        from crnn.data.hdf5 import HDF5Writer

        self.writer = HDF5Writer(param.hdf5_output_param.file_name)
        self.top_shapes = []

    def forward(self, data, label):
        rows = [blob.detach().cpu().numpy().astype(np.float32) for blob in (data, label)]
        data, label = (blob.reshape(blob.shape + (1,) * (4 - blob.ndim)) for blob in rows)
        self.writer.append(data=data, label=label)
        return ()
