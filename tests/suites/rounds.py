"""All runs of one suite: direct once, then compared with every setting."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from tests.suites.comparison import Comparison, Outcomes, compare
from tests.suites.definition import SETTINGS, Known, Setting
from tests.suites.execution import Run, execute
from tests.suites.sources import Ready

Show = Callable[[Run, float], None]


def compare_all(
    ready: Ready,
    settings: Sequence[Setting],
    known: Sequence[Known],
    stop: threading.Event,
    jobs: int,
    show: Show,
    tests: Sequence[str] = (),
) -> Iterator[Comparison]:
    """The comparison for each setting, as they come. `stop` is set if the caller gives up."""
    name = ready.suite.name

    def run(setting: Setting, repeat: Callable[[Outcomes], Sequence[str]]) -> Run:
        start = time.monotonic()
        return execute(
            ready,
            setting,
            stop,
            lambda so_far: show(so_far, time.monotonic() - start),
            tests,
            repeat,
        )

    def beside(setting: Setting, direct: Future[Run]) -> tuple[Run, Run]:
        def lost(outcomes: Outcomes) -> Sequence[str]:
            return compare(name, setting.name, direct.result().outcomes, outcomes, known).lost

        return run(setting, lost), direct.result()

    with ThreadPoolExecutor(max_workers=jobs) as pool:
        try:
            direct = pool.submit(run, SETTINGS[0], lambda _: ())
            those = [pool.submit(beside, setting, direct) for setting in settings]
            for done in as_completed(those):
                through, base = done.result()
                setting = through.setting.name
                yield compare(name, setting, base.outcomes, through.outcomes, known, through.texts)
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
