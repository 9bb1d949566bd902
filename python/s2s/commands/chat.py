"""``s2s chat``."""

import sys
from dataclasses import asdict

from ..errors import S2SError
from ..text.pairs import join_turns
from .lines import at_terminal, report_cuts, standard_input
from .options import DeviceOption, ModelArgument, pick_device, say, with_search_options


@with_search_options
def chat(model: ModelArgument, device: DeviceOption = "auto", options=None):
    """Talk to a dialogue model: a line of reply for every line that you type or pipe in.

    A model of --turns above 1 is told what was said before; an empty line begins anew. End with Ctrl-D or Ctrl-C. With
    --sample the replies differ from one to the next, by --seed.
    """
    if options.n_best > 1:
        raise S2SError(f"n_best is {options.n_best}, but a chat has one reply to a line.")
    from ..translator import Translator

    translator = Translator.load(model, pick_device(device))
    generator, turns, said = options.generator(), translator.config.turns, []
    typed = at_terminal() and sys.stdout.isatty()
    for number, line in enumerate(typed_lines() if typed else standard_input(), 1):
        reply = ""
        if line.strip():  # nothing is said to nothing; a pipe still gets a line for each of its own
            said.append(line.strip())
            source = join_turns(said, turns)
            reply = translator.translate(source, generator=generator, cut=report_cuts(number), **asdict(options))
            said = [*said, reply][-turns:]
        else:
            said = []
        if line.strip() or not typed:
            print(" ".join(reply.split()), flush=True)


def typed_lines():
    """What a person types after a prompt, with the keys of readline."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (input() uses it once it is loaded)
    say("Ctrl-D ends the chat.")
    try:
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            while True:
                yield input("> ")
    except UnicodeDecodeError:
        raise S2SError("what was typed is not UTF-8 text.") from None
    print()
