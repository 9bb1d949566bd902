"""PyTorch Forecasting: DeepAR, RecurrentNetwork and the Temporal Fusion Transformer on its TimeSeriesDataSet.

Its LSTM and GRU are subclasses of torch.nn's that take lengths, zero among them, and call super().forward.
"""

from unittest.mock import patch

import numpy
import pandas
import torch
from pytorch_forecasting import DeepAR, RecurrentNetwork, TemporalFusionTransformer, TimeSeriesDataSet
from torch.utils._pytree import tree_map_only

from .case import Case, Size

PINS = [
    "pytorch-forecasting==1.8.0",
    "aiohappyeyeballs==2.7.1",
    "aiohttp==3.14.5",
    "aiosignal==1.4.0",
    "attrs==26.1.0",
    "cloudpickle==3.1.3",
    "frozenlist==1.8.0",
    "idna==3.20",
    "joblib==1.6.0",
    "lightning==2.6.6",
    "lightning-utilities==0.15.3",
    "multidict==7.2.1",
    "narwhals==2.29.0",
    "pandas==3.0.6",
    "propcache==0.5.4",
    "pytorch-lightning==2.6.6",
    "scikit-base==1.0.2",
    "scikit-learn==1.9.1",
    "scipy==1.17.1",
    "threadpoolctl==3.8.0",
    "torchmetrics==1.9.0",
    "yarl==1.25.1",
]


def series(size: Size, shortest):
    """A dataset of random series, and a batch of it, from the shortest past to the longest."""
    groups = numpy.arange(size.batch).repeat(3 * size.steps)
    frame = pandas.DataFrame(
        {
            "group": [f"g{i}" for i in groups],
            "time": numpy.tile(numpy.arange(3 * size.steps), size.batch),
            "value": numpy.random.randn(len(groups)),
            "price": numpy.random.randn(len(groups)),
        }
    )
    dataset = TimeSeriesDataSet(
        frame,
        time_idx="time",
        target="value",
        group_ids=["group"],
        static_categoricals=["group"],
        time_varying_known_reals=["price"],
        time_varying_unknown_reals=["value"],
        max_encoder_length=size.steps,
        min_encoder_length=shortest,
        max_prediction_length=size.steps // 2,
        min_prediction_length=2,
        add_relative_time_idx=False,
    )
    shortest_first = dataset.index["sequence_length"].argsort(kind="stable").to_numpy()
    picked = shortest_first[numpy.linspace(0, len(shortest_first) - 1, size.batch).astype(int)].tolist()
    batch = dataset.to_dataloader(train=False, batch_size=size.batch, num_workers=0, sampler=picked)
    # It makes float32, whatever the default dtype is.
    return dataset, tree_map_only(torch.Tensor, cast, next(iter(batch)))


def cast(x):
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x


def case(kind, converted, shortest=1, samples=None, note="", **options):
    def make(size: Size) -> Case:
        dataset, (x, y) = series(size, shortest)
        model = kind.from_dataset(dataset, hidden_size=size.hidden, dropout=0.2, log_interval=-1, **options)

        def forward(model):
            # Without a copy, decoding in steps would write what it predicts into the batch.
            found = model(tree_map_only(torch.Tensor, torch.clone, x))
            return [value for value in found if isinstance(value, torch.Tensor)]

        def loss(model):
            # Its step asks the Trainer for the stage, and logs; here is no Trainer.
            trainer = patch.multiple(type(model), current_stage="train", log=lambda *args, **kwargs: None)
            with trainer, torch.backends.cudnn.flags(enabled=False):  # which it wants for monotone_constraints
                return model.step(tree_map_only(torch.Tensor, torch.clone, x), y, 0)[0]["loss"]

        def decode(model):
            with torch.no_grad():
                return model(tree_map_only(torch.Tensor, torch.clone, x), n_samples=samples)["prediction"]

        return Case(
            model=model,
            outputs=forward,
            loss=loss,
            converted=converted,
            decode=decode if samples else None,
            note=note,
        )

    return make


CASES = {
    "DeepAR, LSTM, 2 layers": case(DeepAR, 1, samples=4, cell_type="LSTM", rnn_layers=2),
    "DeepAR, GRU": case(DeepAR, 1, samples=4, cell_type="GRU", rnn_layers=1),
    "RecurrentNetwork, LSTM": case(RecurrentNetwork, 1, cell_type="LSTM"),
    "RecurrentNetwork, GRU, 2 layers": case(RecurrentNetwork, 1, cell_type="GRU", rnn_layers=2),
    "TemporalFusionTransformer": case(TemporalFusionTransformer, 2, shortest=0, lstm_layers=2),
    "TemporalFusionTransformer, monotone": case(
        TemporalFusionTransformer,
        2,
        note="monotone_constraints are a loss on a gradient, so it differentiates twice",
        monotone_constraints={"price": 1},
    ),
}
