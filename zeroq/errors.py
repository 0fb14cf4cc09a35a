"""The one error type that this library raises on purpose."""


class ZeroQError(ValueError):
    """A wrong argument, network, file or budget; the sentence names the cause and the mend."""
