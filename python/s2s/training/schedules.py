"""What changes over a run of training: the learning rate, and how often the model is fed its own outputs."""

import math


class Schedule:
    """The learning rate over the run; ``progress`` goes from 0 to 1."""

    def __init__(self, optimizer, config):
        self.optimizer, self.config, self.factor = optimizer, config, 1.0

    def set(self, step, progress):
        kind, factor = self.config.lr_schedule, self.factor
        if kind == "linear":
            factor = 1 - progress
        elif kind == "cosine":
            factor = (1 + math.cos(math.pi * progress)) / 2
        if step < self.config.warmup:
            factor *= (step + 1) / self.config.warmup
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * factor

    def worse(self):
        """Validation did not improve."""
        if self.config.lr_schedule == "plateau":
            self.factor /= 2


def sampling_probability(config, step) -> float:
    """How often update ``step`` feeds the model's own outputs; 1 minus the epsilon of Bengio et al. (2015)."""
    k, share = config.sampling_steps, 0.0
    if config.sampling == "constant":
        share = 1.0
    elif config.sampling == "linear":
        share = min(step / k, 1.0)
    elif config.sampling == "inverse_sigmoid":
        share = 1 - k / (k + math.exp(min(step / k, 700.0)))  # exp overflows a little later
    return config.sampling_probability * share
