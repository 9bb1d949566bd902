"""The one error a user is meant to see."""


class S2SError(Exception):
    """Something the user can put right; the message is one sentence. The command line exits with 1."""


class PeerError(S2SError):
    """Another process of the same training has ended; each that is left says so."""


def shown(value: object, most: int = 60) -> str:
    """A value within a sentence, on one line and cut short: files hold anything."""
    if isinstance(value, dict | list):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 10**most:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= most else text[:most] + "..."
