"""The demonstration from start to end: each step says that it is done and how long it took."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import asyncpg
import uvloop
from rich.console import Console
from rich.markup import escape

from proxy.config.version import version
from proxy.demo import report, shop
from proxy.demo.errors import DemoError
from proxy.demo.metrics import explain
from proxy.demo.place import Place, default_place, occupied
from proxy.demo.serving import Serving, check_port, end_leftover, launch
from proxy.demo.sides import HAS_PSYCOPG, Side
from proxy.demo.signals import Stopped, StopSignals
from proxy.demo.workload import (
    ALL_CARTS,
    CART,
    PAGE,
    Outcome,
    phases,
    refusal_of,
    run_crowd,
    run_phase,
    with_values,
)
from proxy.local.configuration import render_config
from proxy.local.errors import LocalStackError
from proxy.local.layout import STATE
from proxy.local.ports import HOST
from proxy.local.stack import Stack, StackOptions, open_stack
from proxy.local.start import start_stack
from proxy.local.state import read_state

DEFAULT_PORT = 6432
DEFAULT_HTTP_PORT = 9432


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `once`: end after the table. Port 0: any free one."""

    once: bool = False
    data: Path | None = None
    port: int = DEFAULT_PORT
    http_port: int = DEFAULT_HTTP_PORT


def run(options: Options) -> int:
    """Run the demonstration; its exit status. Whatever happens, nothing that it started stays."""
    signals = StopSignals()
    signals.install()
    output = report.console()
    shown = False
    try:
        with ExitStack() as cleanup:
            try:
                serving = _Demo(options, signals, cleanup, output).show()
                shown = True
                if not options.once:
                    serving.process.wait()
                    raise serving.failure("Penstock ended by itself")
            finally:
                signals.finish()
    except Stopped as stopped:
        if not shown:
            output.print("Interrupted; everything that was started is stopped again.")
            return 128 + stopped.number
    except _FAILURES as error:
        said = escape(str(error) or type(error).__name__)
        report.console(stderr=True).print(f"[red]error:[/] {said}", soft_wrap=True)
        return 1
    output.print("Stopped Penstock and all servers; their data are kept.")
    return 0


_FAILURES = (DemoError, LocalStackError, OSError, asyncpg.PostgresError, aiohttp.ClientError)


class _Demo:
    """One run. `cleanup` gets the undoing of each step before the step is made."""

    def __init__(
        self, options: Options, signals: StopSignals, cleanup: ExitStack, output: Console
    ) -> None:
        self._options = options
        self._signals = signals
        self._cleanup = cleanup
        self._output = output
        self._begun = time.monotonic()

    def show(self) -> Serving:
        """All steps up to the table."""
        options, cleanup = self._options, self._cleanup
        place = cleanup.enter_context(occupied(options.data or default_place()))
        if end_leftover(place):
            self._output.print("[green]✓[/] ended a Penstock that an earlier run left behind")
        check_port(options.port, "--port")
        check_port(options.http_port, "--http-port")
        stack = self._start_stack(place)
        runner = cleanup.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        complete = self._signals.run(runner, shop.is_complete(stack))
        if not complete:
            with self._step(f"made {shop.SUMMARY}"):
                self._signals.run(runner, shop.make(stack))
        with self._step(f"{len(stack.replicas)} replicas hold all that the primary has"):
            self._signals.run(runner, shop.wait_for_replicas(stack))
        serving = self._start_penstock(place, stack)
        dsn = serving.dsn(shop.DATABASE, stack.app_user, stack.app_password)
        if not complete:
            with self._step(f"filled {shop.CARTS:,} carts through Penstock, each on its shard"):
                self._signals.run(runner, shop.fill_carts(dsn))
                self._signals.run(runner, shop.mark_complete(stack))
        self._signals.run(runner, self._work(serving, stack, dsn))
        self._say_what_to_try(place, stack, serving, dsn)
        return serving

    def _start_stack(self, place: Place) -> Stack:
        def progress(server: str, what: str) -> None:
            self._output.print(f"  [dim]{server} {what}[/]")

        # start_stack stops what it began when it fails; a signal may come right after it.
        self._cleanup.callback(_stop_own_stack, place)
        with self._step("local stack: a primary, two replicas, two shards and Redis are up"):
            return start_stack(StackOptions(data_dir=place.stack_dir), progress)

    def _start_penstock(self, place: Place, stack: Stack) -> Serving:
        options = self._options
        text = render_config(
            stack,
            database=shop.DATABASE,
            listen=f"{HOST}:{options.port}",
            http_listen=f"{HOST}:{options.http_port}",
            sharded_tables=shop.SHARDED_TABLES,
            extra=f'[log]\nformat = "json"\n\n{shop.RULES}',
        )
        place.config_file.touch(mode=0o600)
        place.config_file.write_text(text, encoding="utf-8")
        with self._step(f"Penstock {version()} serves {place.config_file}"):
            serving = launch(place, self._signals, self._cleanup)
            serving.wait_until_listening()
        return serving

    async def _work(self, serving: Serving, stack: Stack, dsn: str) -> None:
        """Run the workload and print what happened."""
        outcomes: dict[str, Outcome] = {}
        url = serving.metrics_url
        direct_dsns = [stack.dsn(server, shop.DATABASE) for server in stack.shards]
        async with (
            aiohttp.ClientSession() as http,
            Side(0, dsn) as penstock,
            Side(1, stack.dsn(database=shop.DATABASE), direct_dsns) as direct,
        ):
            with self._step("ran the workload through Penstock and straight on PostgreSQL"):
                for phase in phases():
                    outcomes[phase.name] = await run_phase(phase, penstock, direct, http, url)
                crowd = await run_crowd(penstock, direct, http, url)
                outcomes[crowd.phase.name] = crowd
            fresh = await penstock.open()
            explained = {
                sql: await explain(fresh, sql) for sql in (with_values(PAGE), with_values(CART))
            }
            refusal = await refusal_of(fresh, ALL_CARTS)
        self._print(outcomes, explained, refusal)

    def _print(
        self,
        outcomes: dict[str, Outcome],
        explained: dict[str, dict[str, str]],
        refusal: str,
    ) -> None:
        output = self._output
        seconds = time.monotonic() - self._begun
        output.print(f"\n[bold]What happened[/] ({seconds:.1f} s after the start)")
        output.print(report.happened(outcomes.values()))
        for sentence in report.sentences(outcomes):
            output.print(f"- {sentence}", soft_wrap=True)
        output.print(
            f"- Refused rather than guessed: {ALL_CARTS} → {escape(refusal)}", soft_wrap=True
        )
        if not HAS_PSYCOPG:
            output.print("- psycopg is not installed: its part, the transactions, was left out.")
        for sql, rows in explained.items():
            output.print(f"\n[bold]EXPLAIN (PENSTOCK)[/] {escape(sql)}", soft_wrap=True)
            output.print(report.explanation(rows))

    def _say_what_to_try(self, place: Place, stack: Stack, serving: Serving, dsn: str) -> None:
        if self._options.once:
            return
        psql = "psql" if shutil.which("psql") else str(stack.psql)
        for line in (
            "",
            "[bold]Try it[/]",
            f"  SQL       {psql} {dsn}",
            f"            then: EXPLAIN (PENSTOCK) {escape(with_values(CART))};",
            f"  metrics   curl {serving.metrics_url}",
            f"  settings  {place.config_file}",
            f"  log       {place.log_file}",
            "Ctrl-C stops it all and keeps the data.",
        ):
            self._output.print(line, soft_wrap=True)

    @contextmanager
    def _step(self, done: str) -> Iterator[None]:
        """Say `done` with the time that the block took, when it has gone well."""
        begun = time.monotonic()
        with self._output.status("…") if self._output.is_terminal else nullcontext():
            yield
        self._output.print(f"[green]✓[/] {escape(done)} [dim]{time.monotonic() - begun:.1f} s[/]")


def _stop_own_stack(place: Place) -> None:
    """Stop the servers, unless somebody else started them."""
    state = read_state(place.stack_dir / STATE)
    if state is None or state.owner is None or state.owner.pid != os.getpid():
        return
    if (stack := open_stack(place.stack_dir)) is not None:
        stack.stop()
