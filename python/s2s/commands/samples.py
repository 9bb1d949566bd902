"""Translations that show how far a training is."""

from itertools import islice


class Samples:
    """The outputs for a few validation pairs, spread over them.

    Args:
        pairs: to choose from.
        count: how many.
        vocabularies: (source, target).
    """

    def __init__(self, pairs, count, vocabularies):
        self.pairs = list(islice(pairs, 0, None, max(1, len(pairs) // max(count, 1))))[:count]
        self.vocabularies = vocabularies

    def show(self, model, say):
        """Says them, by greedy search; the model trains on as if nothing had been."""
        if not self.pairs:
            return
        from ..translator import Translator

        training = model.training
        outputs = Translator(model, *self.vocabularies).translate([source for source, _ in self.pairs])
        model.train(training)
        for (source, target), output in zip(self.pairs, outputs):
            say(f"    {source}\n      is     {target}\n      found  {output}")
