"""One epoch of training, as a user begins it, wherever the model may be."""

import pytest
import torch
from test_s2s_training import setting

from s2s.training import train, validation_loss

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
KINDS = {
    "gru": {},
    "lstm, input feeding": {"cell": "lstm", "order": "after", "feed": "attentional", "dropout": 0.2},
    "bfloat16": {"precision": "bfloat16"},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_an_epoch(device, kind):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.use_deterministic_algorithms(False)  # as a user's: cuDNN takes the encoder
    model, data, _ = setting(epochs=1, batch_size=10, lr=1e-2, **KINDS[kind])
    model = model.to(device)
    before = validation_loss(model, data)
    history = train(model, data, data, show_bar=False, say=lambda text: None)
    assert len(history) == 1 and all(p.isfinite().all() and p.device.type == device for p in model.parameters())
    assert history[0]["valid_loss"] < 0.9 * before
