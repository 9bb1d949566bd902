"""Lets torchvision be imported beside a torch without CUDA; imported before the packages.

PyPI's torchvision is compiled against the CUDA build of torch. Beside a CPU build its operators cannot be loaded, and
``import torchvision`` stops, since it describes two of them to the compiler. They get their schemas here, so that all
of torchvision that is Python works. No case runs these operators.
"""

import torch

if torch.version.cuda is None:
    library = torch.library.Library("torchvision", "DEF")  # lives as long as this module
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
