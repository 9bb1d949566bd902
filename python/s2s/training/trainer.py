"""Teacher-forced training with validation, early stopping and a progress bar."""

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from ..errors import S2SError
from ..files import AnyPath
from ..model.config import Config
from ..model.seq2seq import Seq2Seq, outline
from ..text.data import Batch, Dataset, prefetch
from ..text.vocab import AnyVocabulary
from .processes import ALONE, Processes
from .schedules import Schedule, sampling_probability
from .state import save_state


def build_model(
    config: Config, source_vocab: AnyVocabulary, target_vocab: AnyVocabulary, device: torch.device | str = "cpu"
) -> Seq2Seq:
    """A new Seq2Seq, its initial values set by ``config.seed``. S2SError if this machine cannot hold and train it."""
    check_memory(config, len(source_vocab), len(target_vocab), device)
    torch.manual_seed(config.seed)
    return Seq2Seq(config, len(source_vocab), len(target_vocab)).to(device)


def check_memory(config: Config, source_size: int, target_size: int, device: torch.device | str) -> None:
    """The system grants more memory than there is, and kills who uses it; so that is counted beforehand."""
    count = count_parameters(outline(config, source_size, target_size))
    needed = 4 * 4 * count  # bytes of a float32, its gradient and Adam's two moments
    if torch.device(device).type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    else:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise S2SError(
            f"the model has {count:,} parameters, which take {needed / 2**30:,.0f} GiB to train, but {device} has "
            f"{memory / 2**30:,.0f} GiB."
        )


def count_parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def build_optimizer(model: Seq2Seq, config: Config) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)


def autocast(config: Config, device: torch.device | str) -> torch.autocast:
    """The context in which a model of this configuration computes."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.precision == "bfloat16")


class Loss(nn.Module):
    """``model.loss`` as the forward of a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: Seq2Seq) -> None:
        super().__init__()
        self.model = model

    def forward(self, *arguments: Any) -> torch.Tensor:
        return self.model.loss(*arguments)


def train_step(
    model: Seq2Seq, optimizer: torch.optim.Optimizer, *batches: Batch, step: int = 0, shared: Any = None
) -> torch.Tensor:
    """Update number ``step``, with the gradient of all the batches together, one after the other.

    ``shared``: the Loss of the model in a DistributedDataParallel, if each batch is the part that this process has.
    Returns the loss per target token, of several processes this one's part of the sum; a tensor, so that nothing
    waits for it.
    """
    config, total = model.config, sum(batch.tokens for batch in batches)
    size = 1 if shared is None else shared.process_group.size()
    optimizer.zero_grad(set_to_none=True)
    losses = []
    for batch in batches:
        alone = shared is None or batch is batches[-1]
        with nullcontext() if alone else shared.no_sync():  # the gradients are exchanged once, with the last batch
            with autocast(config, batch.source.device):
                arguments = batch, config.label_smoothing, sampling_probability(config, step)
                loss = (shared or model.loss)(*arguments) / total
            (loss * size).backward()  # as what is exchanged is the mean
        losses.append(loss.detach())
    if config.clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
    optimizer.step()
    return torch.stack(losses).sum()


@torch.no_grad()
def validation_loss(model: Seq2Seq, dataset: Dataset, processes: Processes = ALONE) -> float:
    """Mean negative log likelihood of a target token, in nats, without dropout or smoothing.

    The same bits for any number of processes: each does some of the batches, and their losses are summed in order.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    batches = dataset.batches()
    losses = torch.zeros(len(batches), dtype=torch.float64)
    for i in processes.part(range(len(batches))):
        with autocast(model.config, device):
            losses[i] = model.loss(dataset.load(batches[i]).to(device)).item()
    model.train(training)
    return sum(processes.add(losses).tolist()) / dataset.count_tokens(np.arange(len(dataset)))


def duration(seconds) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def moving_average(decay: float) -> Callable[..., None]:
    """For AveragedModel: w' <- d w' + (1 - d) w. After n updates d is (1 + n) / (10 + n) or ``decay``, whichever is
    less, so that the weights of the start are soon forgotten."""

    def update(averaged, current, count):
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + int(count)) / (10 + int(count))))

    return update


class Trainer:
    """One run of training; ``run()`` leaves the model with the weights of its best validation.

    Args:
        model: a Seq2Seq; ``model.config`` says how it is trained.
        train_set, valid_set: Datasets.
        on_best: called with (model, history) whenever validation has improved.
        stop: called with (model, record) after a validation; True ends the training.
        show_bar: show the progress bar; by default if standard error is a terminal.
        say: where lines of text go.
        state: a folder where every validation leaves what ``load_state(trainer, folder)`` goes on from, to the bit.
        processes: those that share the work, each with a Trainer of its own; ``config.batch_size`` is what all of
            them do of an update, and only the first calls, says and writes anything.
    """

    def __init__(
        self,
        model: Seq2Seq,
        train_set: Dataset,
        valid_set: Dataset,
        *,
        on_best: Callable[[Seq2Seq, list[dict[str, Any]]], object] | None = None,
        stop: Callable[[Seq2Seq, dict[str, Any]], bool] | None = None,
        show_bar: bool | None = None,
        say: Callable[[str], object] = print,
        state: AnyPath | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model, self.config = model, model.config
        self.device = next(model.parameters()).device
        for name, dataset in (("training", train_set), ("validation", valid_set)):
            if not len(dataset):
                raise S2SError(f"no {name} pair is left (max_length is {self.config.max_length}).")
        self.train_set, self.valid_set, self._say = train_set, valid_set, say
        self.on_best, self.stop, self.state_folder, self.processes = on_best, stop, state, processes
        self.optimizer = build_optimizer(model, self.config)
        self.schedule = Schedule(self.optimizer, self.config)
        # The moving average of the weights (Polyak); it is what is validated and saved.
        self.average = AveragedModel(model, multi_avg_fn=moving_average(self.config.ema)) if self.config.ema else None
        self.shared = processes.wrap(Loss(model)) if processes.size > 1 else None
        if processes.rank:  # the same dropout everywhere would be less of it
            torch.manual_seed((self.config.seed + 1_000_003 * processes.rank) % 2**63)
        self.batches = len(train_set.batches(0))  # of every epoch; sorting a large file anew takes time and memory
        self.total_steps = self.config.epochs * -(-self.batches // self.config.accumulate)
        show = processes.first and (sys.stderr.isatty() if show_bar is None else show_bar)
        self.bar = tqdm(
            total=self.total_steps,
            desc="training",
            disable=not show,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}{postfix}",
        )
        self.history, self.best_loss, self.best_weights, self.bad = [], math.inf, None, 0
        self.step, self.tokens, self.losses, self.shown_loss = 0, 0, [], None
        self.epoch, self.done = 1, 0  # the batches of this epoch that are behind us
        self.notes = None  # a record of the run, kept with its state
        self.interrupted = False  # by Ctrl-C
        self.start, self.outside = time.monotonic(), 0.0  # seconds spent on anything but training steps

    def run(self) -> list[dict[str, Any]]:
        """Trains; returns one record a validation. KeyboardInterrupt ends it, and is raised again if there is none."""
        self.model.train()
        try:
            while self.epoch <= self.config.epochs and not self._run_epoch(self.epoch):
                self.epoch, self.done = self.epoch + 1, 0
        except KeyboardInterrupt:
            self.interrupted = True
            if self.best_weights is None:
                raise
        finally:
            self._show_rate()
            self.bar.close()
        self.model.load_state_dict(self.best_weights)
        self.model.eval()
        return self.history

    def say(self, text: str) -> None:
        if not self.processes.first:
            return
        with tqdm.external_write_mode():  # the bar steps aside
            self._say(text)

    def _seconds(self) -> float:
        return time.monotonic() - self.start

    def _tokens_per_second(self) -> float:
        return self.tokens / max(self._seconds() - self.outside, 1e-9)

    def _time_used(self) -> float:
        """The share of the time that may be used, 0 if there is no limit; by the clock of the first process."""
        return self.processes.decide(self._seconds() / self.config.max_seconds) if self.config.max_seconds else 0.0

    def _run_epoch(self, epoch: int) -> bool:
        """Whether the training is over."""
        every = self.config.eval_every
        batches = islice(self.train_set.batches(epoch), self.done, None)
        groups = iter(lambda: list(islice(batches, self.config.accumulate)), [])
        with closing(prefetch(self._load, groups)) as loaded:
            for group in loaded:
                self._run_step(group)
                self.done += len(group)
                if self._time_used() >= 1:
                    self._validate(epoch)
                    return True
                if every and self.step % every == 0 and self._validate(epoch):
                    return True
        if self.losses and (not every or epoch == self.config.epochs):
            return self._validate(epoch)
        return False

    def _load(self, group: Sequence[Any]) -> list[Batch]:
        """The batches of one step; runs in another thread."""
        part = self.processes.part
        batches = [self.train_set.load_part(indices, part(indices)) for indices in group]
        return [batch.pin() for batch in batches] if self.device.type == "cuda" else batches

    def _run_step(self, batches: Sequence[Batch]) -> None:
        self.schedule.set(self.step, max(self.step / self.total_steps, self._time_used()))
        batches = [batch.to(self.device) for batch in batches]
        self.losses.append(train_step(self.model, self.optimizer, *batches, step=self.step, shared=self.shared))
        if self.average is not None:
            self.average.update_parameters(self.model)
        self.step += 1
        self.tokens += sum(batch.tokens for batch in batches)
        if self.step % 10 == 1:  # now and then, as reading a loss waits for a GPU
            self._show(self.processes.add(self.losses[-1]).item())
        self.bar.update()

    def _show(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise S2SError(f"the loss is {loss} at step {self.step}; try an lr under {self.config.lr}.")
        self.shown_loss = loss if self.shown_loss is None else 0.8 * self.shown_loss + 0.2 * loss
        left = (self.total_steps - self.step) * self._seconds() / self.step
        if self.config.max_seconds:
            left = min(left, max(self.config.max_seconds - self._seconds(), 0))
        self._show_rate(f", {'at most ' if self.config.patience else ''}{duration(left)} left")

    def _show_rate(self, left=""):
        """Beside the bar; of a training that is over nothing is left."""
        if self.shown_loss is not None:
            rate = self._tokens_per_second()
            self.bar.set_postfix_str(f"loss {self.shown_loss:.3f}, {rate:,.0f} tokens/s{left}", refresh=not left)

    def _validate(self, epoch: int) -> bool:
        """Adds a record to the history; returns whether to stop."""
        began, rate = self._seconds(), self._tokens_per_second()
        model = self.model if self.average is None else self.average.module
        loss = validation_loss(model, self.valid_set, self.processes)
        record = {
            "step": self.step,
            "epoch": epoch,
            "seconds": round(began, 2),
            "train_loss": self.processes.add(torch.stack(self.losses)).mean().item(),
            "valid_loss": loss,
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": round(rate),
        }
        if not math.isfinite(found := record["train_loss"]):
            raise S2SError(f"the loss is {found} before step {self.step}; try an lr under {self.config.lr}.")
        self.losses = []
        self.history.append(record)
        improved = loss < self.best_loss
        self.say(
            f"step {self.step:6d}  epoch {epoch:3d}  {began:6.1f} s  train {record['train_loss']:.4f}  "
            f"valid {loss:.4f}{' *' if improved else '  '}  {rate:,.0f} tokens/s"
        )
        if improved:
            self.best_loss, self.bad = loss, 0
            weights = model.state_dict()
            self.best_weights = {name: value.detach().clone() for name, value in weights.items()}
            if self.on_best and self.processes.first:
                self.on_best(model, self.history)
        elif not math.isfinite(loss):
            raise S2SError(f"the validation loss is {loss}; try an lr under {self.config.lr}.")
        else:
            self.bad += 1
            self.schedule.worse()
        asked = self.stop is not None and self.processes.first
        enough = bool(self.processes.decide(bool(asked and self.stop(model, record))))
        if self.state_folder is not None:
            save_state(self, self.state_folder)
        self.outside += self._seconds() - began
        return enough or 0 < self.config.patience <= self.bad


def train(model: Seq2Seq, train_set: Dataset, valid_set: Dataset, **options: Any) -> list[dict[str, Any]]:
    """``Trainer(model, train_set, valid_set, **options).run()``: trains in place, returns the history."""
    return Trainer(model, train_set, valid_set, **options).run()
