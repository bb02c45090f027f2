"""Names and constants as SQL spells them."""


def literal(text: str) -> str:
    """As a constant in SQL."""
    escaped = text.replace("'", "''")
    return f"E'{escaped}'".replace("\\", "\\\\") if "\\" in text else f"'{escaped}'"


def identifier(name: str) -> str:
    """As a name in SQL."""
    return '"' + name.replace('"', '""') + '"'
