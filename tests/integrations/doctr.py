"""python-doctr: the SAR and CRNN recognition models, their losses and their own decoding to words."""

import torch
from doctr.models.recognition import SAR, crnn_mobilenet_v3_small
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import doctr as integration

from .case import Case, Size

PINS = [
    "python-doctr==1.1.0",
    "torchvision==0.28.0",
    "opencv-python-headless==5.0.0.93",
    "anyascii==0.3.3",
    "h5py==3.16.0",
    "langdetect==1.0.9",
    "six==1.17.0",
    "pyclipper==1.4.0",
    "pypdfium2==5.15.2",
    "rapidfuzz==3.14.6",
    "scipy==1.17.1",
    "shapely==2.2.0",
    "validators==0.36.0",
    "huggingface_hub==2.4.0",
    "httpx2==2.16.2",
    "httpcore2==2.16.2",
    "h11==0.16.0",
    "idna==3.20",
    "truststore==0.10.5",
]

VOCABULARY = "abcdefghijklmnopqrstuvwxyz"
CHANNELS = 512  # SAR's decoder works with no other number, neither of features nor of units


class Backbone(nn.Sequential):
    """A small one in place of ResNet-31, with the interface that SAR wants: features of an image, in a dict."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, CHANNELS, kernel_size=8, stride=8), nn.Tanh())

    def forward(self, image):
        return {"features": super().forward(image)}


def words(size: Size, longest):
    lengths = torch.randint(1, longest + 1, (size.batch,)).tolist()
    letters = torch.randint(len(VOCABULARY), (size.batch, longest)).tolist()
    return ["".join(VOCABULARY[i] for i in row[:length]) for row, length in zip(letters, lengths)]


def recognition(make_model, converted, shape, by=sk, refused=""):
    """A recognition model on images of ``shape``, trained and run as its own scripts do."""

    def make(size: Size) -> Case:
        images = torch.rand(size.batch, *shape)
        target = words(size, longest=4)

        def outputs(model):
            found = model(images, target, return_model_output=True)
            return [found["out_map"], found["loss"]]

        def decode(model):
            with torch.no_grad():
                found = model(images, return_model_output=True)
            return [found["out_map"], found["preds"]]

        return Case(
            model=make_model(size),
            outputs=outputs,
            loss=lambda model: model(images, target)["loss"],
            converted=converted,
            by=by,
            refused=refused,
            decode=decode,
        )

    return make


def sar(size: Size):
    return SAR(Backbone(), VOCABULARY, max_length=6, dropout_prob=0.1, input_shape=(3, 16, 64))


def crnn(size: Size):
    return crnn_mobilenet_v3_small(pretrained_backbone=False, vocab=VOCABULARY, rnn_units=size.hidden)


CASES = {
    "SAR": recognition(sar, 2, shape=(3, 16, 64)),
    "whole loop: SAR": recognition(sar, 1, shape=(3, 16, 64), by=integration),
    "CRNN, MobileNet V3": recognition(crnn, 1, shape=(3, 32, 128)),
    "whole loop: CRNN": recognition(crnn, 1, (3, 32, 128), integration, refused="the CRNN has no SARDecoder"),
}
