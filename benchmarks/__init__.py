"""What Penstock costs and gives, beside PgBouncer, pgpool-II and no proxy at all.

`make bench` (`python -m benchmarks`) starts every server itself and measures all scenarios on all
sides in turn. Where to look:

    scenarios, scripts   what is measured, as data
    sides                who takes part, and how each is set up
    servers              starts and stops the servers and the proxies
    clients              the loads: pgbench, COPY, idle connections
    measuring            one measurement, and the whole run with its state
    report               from measurements to tables, plots and JSON

`python -m benchmarks.logic` measures Penstock's own code without the kernel.
"""
