"""Shows how far a run is."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.measuring.measurement import Round


class Terminal:
    """A bar with what is under way, and a line for each round. On the standard error."""

    def __init__(self, steps: int) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
        )
        self._task = self._bar.add_task("", total=steps)

    def say(self, what: str) -> None:
        """What is under way."""
        self._bar.update(self._task, description=what)

    def advance(self, steps: int = 1) -> None:
        """So many steps are done."""
        self._bar.advance(self._task, steps)

    def took(self, taken: Round) -> None:
        """A round is over."""
        rates = "  ".join(f"{one.side} {one.per_second:,.0f}" for one in taken.measurements)
        others = f"others' tasks {taken.bustle.others:.1f}"
        self._console.print(f"{taken.scenario} {taken.number}: {rates} per s; {others}")
        for name, why in taken.failed.items():
            self._console.print(f"  {name} failed: {why}", style="red", markup=False)

    def __enter__(self) -> "Terminal":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
