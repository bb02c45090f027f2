"""What goes wrong with the demonstration."""


class DemoError(Exception):
    """The demonstration can't go on; the text says why and what to do."""
