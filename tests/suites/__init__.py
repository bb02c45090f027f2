"""Test suites of real drivers, run direct and through Penstock and compared test by test.

`make suites` runs it: `python -m tests.suites --help`. What is run is in `suites.toml`, what can't
hold behind a proxy, with the reason for each, in `known.toml`.
"""
