"""Statement text to facts: kind, tables, functions, key predicates."""
