"""coqui-tts: Tacotron, Tacotron 2 and the WaveRNN vocoder, with their own losses and their own inference."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch

import s2s_kernels as sk

from .case import TIMED, Case, Size

PACKAGE = "TTS"
PINS = [
    "coqui-tts==0.28.0",
    "coqui-tts-trainer==0.4.0",
    "coqpit-config==0.2.5",
    "anyascii==0.3.3",
    "librosa==0.11.0",  # and, from here on, what it needs
    "cffi==2.1.1",
    "cloudpickle==3.1.3",
    "decorator==5.3.1",
    "joblib==1.6.0",
    "lazy-loader==0.6",
    "llvmlite==0.50.0",
    "msgpack==1.2.4",
    "numba==0.68.1",
    "pooch==1.9.0",
    "scipy==1.17.1",
    "six==1.17.0",
    "soundfile==0.14.0",
]

# The package does not import unless it finds these two, whose wheels on PyPI load only beside a CUDA build of torch.
# Nothing here calls them; empty modules stand in for them.
for name in ("torchaudio", "torchcodec"):
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    sys.modules.setdefault(name, module)

from TTS.tts.configs.shared_configs import GSTConfig  # noqa: E402
from TTS.tts.configs.tacotron2_config import Tacotron2Config  # noqa: E402
from TTS.tts.configs.tacotron_config import TacotronConfig  # noqa: E402
from TTS.tts.models.tacotron import Tacotron  # noqa: E402
from TTS.tts.models.tacotron2 import Tacotron2  # noqa: E402
from TTS.vocoder.configs.wavernn_config import WavernnArgs, WavernnConfig  # noqa: E402
from TTS.vocoder.models.wavernn import Wavernn  # noqa: E402

from s2s_kernels.integrations import coqui as integration  # noqa: E402

MELS, FRAMES_A_STEP = 80, 2
NOTE = "training step with a batch of 4"
SENTENCE = "training step of 16 sentences of 60 letters and 200 frames"


def tacotron(model_class, config_class, converted, by=sk, refused="", sentence=False, **options):
    """Sizes of layers are constants of the package; ``size`` is that of the batch. With ``sentence`` the times are
    those of a sentence's length: 60 letters, 200 frames."""

    def make(size: Size) -> Case:
        letters = 60 if sentence and size == TIMED else size.steps
        if sentence and size == TIMED:
            size = size._replace(batch=16, steps=200 // FRAMES_A_STEP)
        else:
            size = size._replace(batch=max(3, size.batch // 8))  # its training steps take seconds
        config = config_class(r=FRAMES_A_STEP, max_decoder_steps=6, **options)
        model = model_class(config).to(torch.get_default_dtype())  # its style tokens are float32 whatever that is
        criterion = model.get_criterion()
        frames = FRAMES_A_STEP * size.steps
        text = torch.randint(1, model.embedding.num_embeddings, (size.batch, letters))
        text_lengths = torch.arange(letters, letters - size.batch, -1).clamp(min=2)
        mels = torch.randn(size.batch, frames, MELS)
        linear = torch.randn(size.batch, frames, config.audio.fft_size // 2 + 1)
        spoken = text_lengths * size.steps // letters
        mel_lengths = FRAMES_A_STEP * spoken
        stop_targets = (torch.arange(size.steps) >= spoken[:, None] - 1).to(mels)

        def forward(model):
            return model(text, text_lengths, mels, mel_lengths)

        def loss(model):
            """As in the model's train_step, which rounds everything to float32 before."""
            found = forward(model)
            return criterion(
                found["model_outputs"],
                found["decoder_outputs"],
                mels,
                linear,
                found["stop_tokens"],
                stop_targets,
                spoken,
                None,
                mel_lengths,
                found["decoder_outputs_backward"],
                found["alignments"],
                spoken,
                found["alignments_backward"],
                text_lengths,
            )["loss"]

        return Case(
            model=model,
            outputs=lambda model: [x for x in forward(model).values() if x is not None],
            loss=loss,
            converted=converted,
            decode=lambda model: model.inference(text[:1], {"style_mel": mels[:1]}),
            by=by,
            refused=refused,
            note=SENTENCE if sentence else NOTE,
        )

    return make


def wavernn(size: Size) -> Case:
    size = size._replace(batch=max(3, size.batch // 8))  # of as many sequences sixteen times as long
    upsample, pad = 16, 2
    args = WavernnArgs(
        rnn_dims=size.hidden,
        fc_dims=size.hidden,
        compute_dims=8,
        res_out_dims=8,
        num_res_blocks=1,
        feat_dims=MELS,
        upsample_factors=[4, 4],
        mode=9,
    )
    config = WavernnConfig(model_args=args)
    config.audio.hop_length = upsample
    model = Wavernn(config)
    criterion = model.get_criterion()
    batch = {
        "waveform": torch.rand(size.batch, upsample * size.steps) * 2 - 1,
        "input": torch.randn(size.batch, MELS, size.steps + 2 * pad),
        "waveform_coarse": torch.randint(model.n_classes, (size.batch, upsample * size.steps)),
    }

    def decode(model):
        torch.manual_seed(0)  # it samples
        return model.inference(batch["input"][:1, :, : 2 * pad], batched=False)

    return Case(
        model=model,
        outputs=lambda model: [model(batch["waveform"], batch["input"])],
        loss=lambda model: model.train_step(batch, criterion)[1]["loss"],
        converted=2,
        decode=decode,
        note=f"{NOTE}; inference makes an nn.GRUCell of each converted GRU's weights, so that it stays PyTorch's",
    )


CASES = {
    "Tacotron, location attention": tacotron(Tacotron, TacotronConfig, 5),
    "Tacotron, Graves attention, style tokens": tacotron(
        Tacotron, TacotronConfig, 6, attention_type="graves", attention_heads=4, use_gst=True, gst=GSTConfig()
    ),
    "Tacotron 2, location attention": tacotron(Tacotron2, Tacotron2Config, 3),
    "Tacotron 2, dynamic convolution, double decoder": tacotron(
        Tacotron2, Tacotron2Config, 5, attention_type="dynamic_convolution", double_decoder_consistency=True, ddc_r=2
    ),
    "WaveRNN": wavernn,
    "whole loop: Tacotron 2": tacotron(Tacotron2, Tacotron2Config, 1, by=integration, sentence=True),
    "whole loop: Tacotron 2, sigmoid, stop token with gradient": tacotron(
        Tacotron2, Tacotron2Config, 1, by=integration, attention_norm="sigmoid", separate_stopnet=False
    ),
    "whole loop: Tacotron 2, no location, window, double decoder": tacotron(
        Tacotron2,
        Tacotron2Config,
        2,
        by=integration,
        location_attn=False,
        attention_win=True,
        double_decoder_consistency=True,
        ddc_r=2,
    ),
    "whole loop: Tacotron 2, forward attention": tacotron(
        Tacotron2, Tacotron2Config, 1, by=integration, use_forward_attn=True, refused="use_forward_attn = True"
    ),
    "whole loop: Tacotron 2, dynamic convolution": tacotron(
        Tacotron2,
        Tacotron2Config,
        1,
        by=integration,
        attention_type="dynamic_convolution",
        refused="attention_type: attention is a MonotonicDynamicConvolutionAttention",
    ),
    "whole loop: Tacotron": tacotron(
        Tacotron, TacotronConfig, 1, by=integration, refused="the Tacotron has no Decoder"
    ),
}
