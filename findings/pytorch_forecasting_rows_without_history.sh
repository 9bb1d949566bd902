#!/usr/bin/env bash
# pytorch-forecasting 1.8.0, rows without history (min_encoder_length=0): the LSTM and GRU of its models.nn.rnn, made for
# lengths that contain zeros, should hand such a row's initial state through. handle_no_encoding fills with masked_scatter,
# which takes values in order, from the first row on, and takes an LSTM's cell state from the hidden state; and where no
# row of the batch has any history, the initial state that was given is ignored for zeros. So what a
# TemporalFusionTransformer predicts for a series without history depends on which others are in its batch.
# Seen, with states h = [1, 2] and c = [10, 20] of two rows:
#   lengths [3, 0]: the second row's h is 1 instead of 2, its c 1 instead of 20
#   lengths [0, 3]: the first row's c is 1 instead of 10
#   lengths [0, 0]: all are 0
# and an untrained TemporalFusionTransformer's medians of one shop without history, alone 3.854, 3.602, 3.024, beside one
# with history 4.097, 3.660, 3.067; those of a row with history are the same in both batches.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps pytorch-forecasting==1.8.0 aiohappyeyeballs==2.7.1 aiohttp==3.14.5 \
    aiosignal==1.4.0 attrs==26.1.0 cloudpickle==3.1.3 frozenlist==1.8.0 idna==3.20 joblib==1.6.0 lightning==2.6.6 \
    lightning-utilities==0.15.3 multidict==7.2.1 narwhals==2.29.0 packaging==25.0 pandas==3.0.6 propcache==0.5.4 \
    python-dateutil==2.9.0.post0 pytorch-lightning==2.6.6 pyyaml==6.0.3 scikit-base==1.0.2 scikit-learn==1.9.1 \
    scipy==1.17.1 six==1.17.0 threadpoolctl==3.8.0 torchmetrics==1.9.0 tqdm==4.67.1 yarl==1.25.1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import pandas
import torch
from pytorch_forecasting import TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.models.nn.rnn import GRU, LSTM

torch.manual_seed(0)
torch.set_grad_enabled(False)
x = torch.randn(2, 3, 4)
h, c = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[10.0], [20.0]]])  # (layers, rows, hidden)
found = []
for lengths in ([3, 0], [0, 3], [0, 0]):
    empty, options = [n == 0 for n in lengths], {"lengths": torch.tensor(lengths), "enforce_sorted": False}
    _, gru_h = GRU(4, 1, batch_first=True)(x, h, **options)
    _, (lstm_h, lstm_c) = LSTM(4, 1, batch_first=True)(x, (h, c), **options)
    given = [state[0, empty, 0].tolist() for state in (h, h, c)]
    found.append([state[0, empty, 0].tolist() for state in (gru_h, lstm_h, lstm_c)])
    print(f"lengths {lengths}: GRU's h, LSTM's h and c should be {given}, are {found[-1]}")
assert found == [[[1], [1], [1]], [[1], [1], [1]], [[0, 0], [0, 0], [0, 0]]]

rows = [{"shop": shop, "day": day, "sold": float(day * sold)} for sold, shop in enumerate("ab", 1) for day in range(6)]
dataset = TimeSeriesDataSet(
    pandas.DataFrame(rows),
    time_idx="day",
    target="sold",
    group_ids=["shop"],
    static_categoricals=["shop"],
    time_varying_known_reals=["day"],
    min_encoder_length=0,
    max_encoder_length=3,
    min_prediction_length=3,
    max_prediction_length=3,
)
model = TemporalFusionTransformer.from_dataset(dataset, hidden_size=8).eval()


def predict(*samples):
    """Lengths of the samples' histories, and the medians that are predicted for the first of them."""
    loader = dataset.to_dataloader(train=False, batch_size=len(samples), sampler=list(samples), num_workers=0)
    batch, _ = next(iter(loader))
    return batch["encoder_lengths"].tolist(), model(batch)["prediction"][0, :, 3]


whole, short, none = 0, 6, 7  # samples of the dataset, by the length of their history
for name, row in (("one day", short), ("none", none)):
    (lengths, alone), (both, beside) = predict(row), predict(row, whole)
    print(f"history {name}: alone {alone.tolist()}, beside a longer one {beside.tolist()}")
    assert (lengths, both) == ([row == short], [row == short, 3])
    assert (alone - beside).abs().max() < 1e-5 if row == short else (alone - beside).abs().min() > 0.01
PYTHON
echo "still so"
