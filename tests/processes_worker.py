"""What each process of torchrun does for tests/test_s2s_processes.py: python processes_worker.py FOLDER."""

import json
import sys
from pathlib import Path

import torch
from test_s2s_training import LOOP, PAIRS, setting

from s2s.training import Trainer
from s2s.training.processes import ALONE, joined
from s2s.training.state import load_state

# batch_size 23 leaves one pair to the last batch, and so nothing to the second process.
CASES = {
    "plain": {"batch_size": 40},
    "odd": {"batch_size": 23},
    "accumulated": {"batch_size": 23, "accumulate": 3, "ema": 0.9, "eval_every": 4, "label_smoothing": 0.1},
    "tokens": {"batch_tokens": 77, "eval_every": 7},
    "loop": {**LOOP, "dropout": 0.0, "loop_dropout": 0.0, "batch_size": 23},
    "sampling": {"sampling": "constant", "batch_size": 23, "gru_reset": "before"},
    "unused": {"batch_size": 40},
    "limited": {"batch_size": 40, "max_seconds": 1000.0, "lr_schedule": "linear"},
}
DROPOUT = {"batch_size": 40, "epochs": 3, "dropout": 0.3, "ema": 0.9}


def trainer(case, processes=ALONE, **options):
    model, data, _ = setting(PAIRS, **{"epochs": 2, "lr": 1e-2} | case)
    if options.pop("unused", False):
        model.never = torch.nn.Parameter(torch.ones(3))  # takes part in no step
    return Trainer(model, data, data, show_bar=False, say=lambda text: None, processes=processes, **options)


def curve(history):
    return [[record["step"], record["train_loss"], record["valid_loss"]] for record in history]


def stop_late(model, record):
    return record["step"] > 10


def main(folder):
    torch.use_deterministic_algorithms(True)
    with joined("cpu", 60) as processes:
        found = {name: curve(trainer(case, processes, unused=name == "unused").run()) for name, case in CASES.items()}
        whole = trainer(DROPOUT, processes)
        found["whole"] = curve(whole.run())
        stopped = trainer(DROPOUT, processes, stop=stop_late, state=folder / "two")
        stopped.run()
        resumed = trainer(DROPOUT, processes)
        load_state(resumed, folder / "two")
        found["resumed"] = curve(resumed.run())
        from_one = trainer(CASES["odd"] | {"epochs": 3}, processes)
        load_state(from_one, folder / "one")
        found["from one"] = curve(from_one.run())
        trainer(CASES["odd"] | {"epochs": 3}, processes, stop=stop_late, state=folder / "for one").run()
        weights = torch.cat([value.flatten() for value in whole.model.state_dict().values()])
        found["the same weights"] = all(torch.equal(weights, other) for other in processes.gather(weights))
        found["tokens"] = [found["tokens"], whole.tokens]
        if processes.first:
            (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
