"""ESPnet2: ASR models of RNN encoders and RNN decoders, RNN language models and Tacotron 2, each with its search."""

from functools import partial

import torch
from espnet.nets.batch_beam_search import BatchBeamSearch
from espnet.nets.beam_search import BeamSearch
from espnet.nets.scorers.length_bonus import LengthBonus
from espnet2.asr.ctc import CTC
from espnet2.asr.decoder.rnn_decoder import RNNDecoder
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.lm.espnet_model import ESPnetLanguageModel
from espnet2.lm.seq_rnn_lm import SequentialRNNLM
from espnet2.torch_utils.initialize import initialize
from espnet2.tts.tacotron2 import Tacotron2

import s2s_kernels as sk
from s2s_kernels.integrations import espnet as integration

from .case import Case, Size, float_of_default_dtype

# 202609 and later want Python 3.12.
PINS = ["espnet==202511", "typeguard==4.6.1"]

VOCABULARY, FEATURES = 20, 16
EOS = VOCABULARY - 1
float_of_default_dtype()  # of the first weights of its location-aware attentions


def lengths(size: Size):
    return torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=3)


def hypotheses(search, encoded):
    """What its scripts read of the best two: tokens and scores."""
    found = search(x=encoded, maxlenratio=1.0)[:2]
    return [(h.yseq, float(h.score), {name: float(score) for name, score in h.scores.items()}) for h in found]


def watched(module, run):
    """All that ``module`` gives while ``run`` is called, as calculate_all_attentions collects it."""
    found = []
    handle = module.register_forward_hook(lambda module, inputs, output: found.append(output))
    run()
    handle.remove()
    return found


def recognition(
    rnn, attention, converted, encoder=RNNEncoder, layers=1, by=sk, refused="", note="", of_decoder=(), **options
):
    def make(size: Size) -> Case:
        conf = {"atype": attention, "adim": size.hidden, "aheads": 2, "aconv_chans": 3, "aconv_filts": 3}
        sizes = {"num_layers": 2, "hidden_size": size.hidden, "output_size": size.hidden, "dropout": 0.1}
        decoder = RNNDecoder(
            vocab_size=VOCABULARY,
            encoder_output_size=size.hidden,
            rnn_type=rnn,
            num_layers=layers,
            hidden_size=size.hidden,
            dropout=0.1,
            att_conf=conf,
            **dict(of_decoder),
        )
        model = ESPnetASRModel(
            vocab_size=VOCABULARY,
            token_list=[str(i) for i in range(VOCABULARY)],
            frontend=None,
            specaug=None,
            normalize=None,
            preencoder=None,
            encoder=encoder(input_size=FEATURES, rnn_type=rnn, **sizes, **options),
            postencoder=None,
            decoder=decoder,
            ctc=CTC(odim=VOCABULARY, encoder_output_size=size.hidden),
            joint_network=None,
            ctc_weight=0.0,  # its CTC rounds to float32
            report_cer=False,
            report_wer=False,
        )
        text_lengths = lengths(size)
        # The encoders make it shorter.
        speech_lengths = 4 * text_lengths
        speech = torch.randn(size.batch, int(speech_lengths[0]), FEATURES)
        text = torch.randint(1, EOS, (size.batch, size.steps))
        text[torch.arange(size.steps) >= text_lengths[:, None]] = -1

        def outputs(model):
            encoded, encoded_lengths = model.encode(speech, speech_lengths)
            logits, _ = model.decoder(encoded, encoded_lengths, text.clamp(min=0), text_lengths)
            return [encoded, logits, model(speech, speech_lengths, text.clone(), text_lengths)[0]]

        def decode(model):
            """Its search, and the attention weights that its trainer plots, by hooks on the modules in the loop."""
            with torch.no_grad():
                plots = watched(model.decoder.att_list[0], lambda: outputs(model))
                encoded, _ = model.encode(speech[:1], speech_lengths[:1])
                scorers = {"decoder": model.decoder, "length_bonus": LengthBonus(VOCABULARY)}
                weights = {"decoder": 1.0, "length_bonus": 0.1}
                search = BeamSearch(
                    scorers=scorers, weights=weights, beam_size=4, vocab_size=VOCABULARY, sos=EOS, eos=EOS
                )
                return hypotheses(search, encoded[0]), plots

        return Case(
            model=model,
            outputs=outputs,
            loss=lambda model: model(speech, speech_lengths, text.clone(), text_lengths)[0].squeeze(),
            converted=converted,
            decode=decode,
            # "chainer", its default for RNN models, cannot initialise a cell without biases.
            initialize=lambda model: initialize(
                model, "xavier_uniform" if attention == "location_recurrent" else "chainer"
            ),
            by=by,
            refused=refused,
            note=note,
        )

    return make


def language_model(rnn, **options):
    def make(size: Size) -> Case:
        lm = SequentialRNNLM(VOCABULARY, unit=size.hidden, nlayers=2, dropout_rate=0.1, rnn_type=rnn, **options)
        model = ESPnetLanguageModel(lm, VOCABULARY)
        text_lengths = lengths(size)
        text = torch.randint(1, EOS, (size.batch, size.steps))
        text[torch.arange(size.steps) >= text_lengths[:, None]] = 0

        def decode(model):
            """batch_score step by step, as its batch beam search calls it; and that search."""
            found, states = [], [None] * size.batch
            with torch.no_grad():
                for step in range(1, size.steps):
                    scores, states = model.lm.batch_score(text[:, :step], states, None)
                    found += [scores, states]
                search = BatchBeamSearch(
                    scorers={"lm": model.lm},
                    weights={"lm": 1.0},
                    beam_size=4,
                    vocab_size=VOCABULARY,
                    sos=EOS,
                    eos=EOS,
                )
                return found, hypotheses(search, torch.zeros(size.steps, 1))

        return Case(
            model=model,
            outputs=lambda model: [model.nll(text, text_lengths)[0], *model.lm(text, None)],
            loss=lambda model: model(text, text_lengths)[0].squeeze(),
            converted=1,
            decode=decode,
            initialize=lambda model: initialize(model, "chainer"),
        )

    return make


def tacotron2(size: Size, by=sk, refused="", **options) -> Case:
    model = Tacotron2(
        idim=VOCABULARY,
        odim=FEATURES,
        embed_dim=size.hidden,
        eunits=size.hidden,
        econv_chans=size.hidden,
        adim=size.hidden,
        aconv_chans=3,
        aconv_filts=3,
        dunits=size.hidden,
        prenet_units=size.hidden,
        postnet_chans=size.hidden,
        use_gst=True,
        gst_tokens=4,
        gst_heads=2,
        gst_conv_chans_list=(4, 4),
        gst_conv_layers=2,
        gst_gru_units=size.hidden,
        **options,
    )
    text_lengths = lengths(size)
    batch = {
        "text": torch.randint(1, VOCABULARY, (size.batch, size.steps)),
        "text_lengths": text_lengths,
        "feats": torch.randn(size.batch, 2 * size.steps, FEATURES),
        "feats_lengths": 2 * text_lengths,
    }
    batch["text"][torch.arange(size.steps) >= text_lengths[:, None]] = 0

    def outputs(model):
        """Its loss, and all that goes into it; its prenet drops out in evaluation too."""
        found = model._forward(
            batch["text"], text_lengths, batch["feats"], batch["feats_lengths"], spembs=None, sids=None, lids=None
        )
        return [*found, model(**batch)[0]]

    def decode(model):
        with torch.no_grad():
            return model.inference(batch["text"][0], batch["feats"][0], maxlenratio=2.0)

    return Case(
        model=model,
        outputs=outputs,
        loss=lambda model: model(**batch)[0].squeeze(),
        converted=4 if by is sk else 1,
        decode=decode,
        initialize=lambda model: initialize(model, "xavier_uniform"),
        by=by,
        refused=refused,
    )


CASES = {
    "ASR, pyramidal BLSTM, LSTM decoder, location": recognition("lstm", "location", 3),
    "ASR, BGRU, GRU decoder of 2 layers, additive": recognition(
        "gru", "add", 3, layers=2, use_projection=False, subsample=None
    ),
    "ASR, VGG and BLSTM, LSTM decoder, recurrent location": recognition(
        "lstm", "location_recurrent", 4, encoder=VGGRNNEncoder
    ),
    "ASR, GRU, GRU decoder, multi-head": recognition("gru", "multi_head_add", 3, bidirectional=False),
    "language model, LSTM, tied": language_model("lstm", tie_weights=True),
    "language model, GRU": language_model("gru"),
    "Tacotron 2, style tokens": tacotron2,
    "whole loop: LSTM decoder, location": recognition("lstm", "location", 1, by=integration),
    "whole loop: GRU decoder of 3 layers, additive, context residual": recognition(
        "gru", "add", 1, layers=3, of_decoder={"context_residual": True}, by=integration
    ),
    "whole loop: LSTM decoder of 2 layers, coverage": recognition("lstm", "coverage", 1, layers=2, by=integration),
    "whole loop: GRU decoder, coverage and location": recognition("gru", "coverage_location", 1, by=integration),
    "whole loop: GRU decoder, multi-head": recognition("gru", "multi_head_add", 1, by=integration),
    "whole loop: LSTM decoder of 2 layers, multi-head, context residual": recognition(
        "lstm", "multi_head_add", 1, layers=2, of_decoder={"context_residual": True}, by=integration
    ),
    "whole loop: Tacotron 2": partial(tacotron2, by=integration),
    "whole loop: Tacotron 2, 3 layers, 2 frames a step, weights not cumulated": partial(
        tacotron2, by=integration, dlayers=3, reduction_factor=2, cumulate_att_w=False, use_concate=False
    ),
    "whole loop: Tacotron 2, 1 layer without zoneout and prenet": partial(
        tacotron2, by=integration, dlayers=1, zoneout_rate=0.0, prenet_layers=0, postnet_layers=0
    ),
    "whole loop: scheduled sampling": recognition(
        "gru", "add", 1, of_decoder={"sampling_probability": 0.5}, by=integration, refused="sampling_probability = 0.5"
    ),
    "whole loop: dot": recognition("gru", "dot", 1, by=integration, refused="its attention is AttDot, expected AttAdd"),
    "whole loop: Tacotron 2, forward attention": partial(
        tacotron2, by=integration, atype="forward", refused="its attention is AttForward, expected AttLoc"
    ),
}
