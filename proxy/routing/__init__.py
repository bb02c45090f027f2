"""Where a statement goes and why: pure functions over statement, session and topology."""
