"""Penstock beside PgBouncer, pgpool-II and no proxy at all, interleaved in one run.

`python -m benchmarks.relay` starts every server itself. What is compared is in `cases`, how each
proxy is started in `contenders`, what is made of the runs in `summary`.
"""
