"""Fields and layer types that well-known forks of Caffe added: who brings one is told where it comes from."""

_SSD = "SSD, weiliu89/caffe"
_SEGNET = "SegNet, alexgkendall/caffe-segnet"
_PSPNET = "PSPNet, hszhao/PSPNet"
_RCNN = "Fast R-CNN, rbgirshick/caffe-fast-rcnn"
_RFCN = "R-FCN, daijifeng001/caffe-rfcn"
_NVIDIA = "NVIDIA/caffe"
_FLOWNET = "FlowNet, lmb-freiburg/flownet2"
_YOLO = "eric612/MobileNet-YOLO"
_TSN = "yjxiong/caffe"
_SENET = "SENet, hujie-frank/SENet"
_FACE = "ydwen/caffe-face"
_KENDRYTE = "kendryte/caffe"

#: Field name -> the forks that define it, read in their caffe.proto.
FORKS = {
    "annotated_data_param": _SSD,
    "batch_reduction_param": _TSN,
    "bn_param": f"{_SEGNET}; {_PSPNET}; {_TSN}",
    "box_annotator_ohem_param": _RFCN,
    "class_weighting": _SEGNET,
    "correlation_param": _FLOWNET,
    "dense_image_data_param": _SEGNET,
    "detection_evaluate_param": _SSD,
    "detection_output_param": _SSD,
    "flow_warp_param": _FLOWNET,
    "interp_param": _PSPNET,
    "label_smoothing": _NVIDIA,
    "lstm_param": "junhyukoh/caffe-lstm",
    "multibox_loss_param": _SSD,
    "norm_param": _SSD,
    "permute_param": _SSD,
    "prior_box_param": _SSD,
    "psroi_pooling_param": _RFCN,
    "region_loss_param": _YOLO,
    "relu6_param": _YOLO,
    "reorg_param": _YOLO,
    "resample_param": _FLOWNET,
    "resize_param": _SSD,
    "roi_pooling_param": f"{_RCNN}; {_RFCN}",
    "scale_bias": _NVIDIA,
    "scale_filler": _NVIDIA,
    "seg_accuracy_param": _PSPNET,
    "shuffle_channel_param": "ShuffleNet, farmingyard/ShuffleNet",
    "smooth_l1_loss_param": f"{_RCNN}; {_RFCN}",
    "update_global_stats": _PSPNET,
    "upsample_param": f"{_SEGNET}; {_YOLO}",
    "video_data_param": f"{_SSD}; {_TSN}",
    "weight_by_label_freqs": _SEGNET,
    "yolo_detection_output_param": _YOLO,
    "yolov3_detection_output_param": _YOLO,
    "yolov3_param": _YOLO,
}

#: Layer type -> the forks that define it.
LAYERS = {
    "AnnotatedData": _SSD,
    "Axpy": _SENET,
    "BN": f"{_SEGNET}; {_PSPNET}; {_TSN}",
    "BoxAnnotatorOHEM": _RFCN,
    "CenterLoss": _FACE,
    "ContinuationIndicator": f"{_KENDRYTE}; intel/caffe",
    "Correlation": _FLOWNET,
    "CtcLoss": _KENDRYTE,
    "DenseImageData": _SEGNET,
    "DetectionEvaluate": _SSD,
    "DetectionOutput": _SSD,
    "FlowWarp": _FLOWNET,
    "Interp": f"{_PSPNET}; DeepLab",
    "MultiBoxLoss": _SSD,
    "Normalize": _SSD,
    "PSROIPooling": _RFCN,
    "Permute": f"{_SSD}; {_KENDRYTE}",
    "PriorBox": _SSD,
    "ROIPooling": f"{_RCNN}; {_RFCN}",
    "ReLU6": _YOLO,
    "RegionLoss": _YOLO,
    "Reorg": _YOLO,
    "Resample": _FLOWNET,
    "Reverse": _KENDRYTE,
    "ShuffleChannel": "ShuffleNet, farmingyard/ShuffleNet",
    "SmoothL1Loss": f"{_RCNN}; {_RFCN}; {_SSD}",
    "Upsample": f"{_SEGNET}; {_YOLO}",
    "VideoData": f"{_SSD}; {_TSN}",
    "Yolov3": _YOLO,
    "Yolov3DetectionOutput": _YOLO,
}
