"""The one error a user is meant to see."""


class S2SError(Exception):
    """Something the user can put right; the message is one sentence. The command line exits with 1."""
