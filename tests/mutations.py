"""Takes the cache's guards out one by one, and sees the tests of the traps fail.

    python -m tests.mutations [NAME ...]

Works in a copy of the tree. docs/cache-proof.md names trap, guard and test for each.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRAPS = "tests/integration/cache/test_traps.py"
FAULTS = "tests/faults/cache/test_coherence_faults.py"
WRITE_BACK = "tests/integration/cache/test_write_back.py"
WRITE_BACK_FAULTS = "tests/faults/cache/test_write_back_faults.py"
LONG = ("-o", "timeout=600")
NEUTRAL = '        "application_name",\n'


@dataclass(frozen=True, slots=True)
class Mutation:
    """In `file`, `guard` becomes `instead`; then each of `tests` must fail. `also`: where either of
    two guards would do, (file, guard, instead) of the other."""

    name: str
    file: str
    guard: str
    instead: str
    tests: Sequence[str]
    also: Sequence[tuple[str, str, str]] = ()


def _trap(*names: str) -> list[str]:
    return [f"{TRAPS}::test_{name}" for name in names]


def _neutral(setting: str, *tests: str) -> Mutation:
    return Mutation(
        f"setting-{setting}",
        "pool/settings_state.py",
        NEUTRAL,
        f'{NEUTRAL}        "{setting}",\n',
        _trap(*tests),
    )


MUTATIONS = (
    Mutation(
        "epochs-compared",
        "cache/lookups.py",
        "elif entry.startswith(scope.head + epochs) and",
        "elif entry.startswith(scope.head) and",
        _trap("a_late_fill"),
    ),
    Mutation(
        "fresh-replica",
        "session/upstream.py",
        "if self._fill is not None and self._fill.fresh_after > facts.fresh_after:",
        "if self._fill is None and self._retries < 0:",
        [f"{FAULTS}::test_replicas_that_stand_still"],
    ),
    Mutation(
        "linked-replica",
        "session/link.py",
        "old = node.role is Role.REPLICA and node.fresh_until < fill.fresh_after",
        "old = False",
        [f"{FAULTS}::test_a_transaction_on_an_old_replica_keeps_nothing"],
    ),
    Mutation(
        "own-writes",
        "session/caching.py",
        "if transaction.wrote:",
        "if transaction.wrote and not client.user:",
        _trap("a_transaction_reads_its_own_write_and_rolls_back"),
    ),
    Mutation(
        "second-move",
        "session/upstream.py",
        "if transaction.writes and self._context.cache is not None:",
        "if not transaction and self._context.cache is not None:",
        _trap(
            "a_read_beside_a_transaction_that_commits",
            "a_client_that_leaves_before_the_outcome",
        ),
    ),
    Mutation(
        "late-commits",
        "session/link.py",
        "for seconds in _LATE_COMMITS:",
        "for seconds in ():",
        [f"{FAULTS}::test_a_write_whose_server_is_cut_off"],
    ),
    Mutation(
        "snapshot",
        "session/context.py",
        "return not client.transaction.read_committed or",
        "return",
        _trap("a_snapshot_is_not_answered_with_what_is_newer", "search_paths_for_one_transaction"),
    ),
    Mutation(
        "pinned",
        "session/caching.py",
        "if client.facts.pinned is not None:",
        "if client.facts.pinned is not None and not client.user:",
        _trap("a_temporary_table_in_front_of_another"),
    ),
    Mutation(
        "schema-doubted",
        "cache/schema.py",
        "if self.doubt is not None:",
        "if self.doubt is not None and not self.token:",
        _trap(
            "a_view_replaced_through_another_proxy",
            "a_view_that_a_function_replaces",
        ),
    ),
    Mutation(
        "schema-planned",
        "cache/moves.py",
        "if token is None or token == planned or isinstance(token, LinkLost):",
        "if token is None or True:",
        _trap("a_long_write_that_meets_a_new_trigger"),
    ),
    Mutation(
        "schema-by-functions",
        "routing/judge.py",
        "statement.kind in _CHANGES_SCHEMA or setters.SCHEMA in left",
        "statement.kind in _CHANGES_SCHEMA",
        _trap("a_view_that_a_function_replaces"),
    ),
    Mutation(
        "schema-two-phase",
        "routing/judge.py",
        "_CHANGES_SCHEMA = _MOVES_ANYTHING - {Kind.EXECUTE}",
        "_CHANGES_SCHEMA = _WRITES_ANYTHING - {Kind.EXECUTE}",
        _trap("a_view_replaced_in_a_prepared_transaction"),
    ),
    Mutation(
        "two-phase",
        "routing/judge.py",
        "_MOVES_ANYTHING = _WRITES_ANYTHING | {Kind.TWO_PHASE}",
        "_MOVES_ANYTHING = _WRITES_ANYTHING",
        _trap("a_prepared_transaction"),
        [
            (
                "sql/transactions.py",
                "Statement(Kind.TWO_PHASE, writes_unknown=True)",
                "Statement(Kind.TWO_PHASE)",
            )
        ],
    ),
    Mutation(
        "ddl",
        "routing/judge.py",
        "if opaque or statement.writes_unknown or statement.kind in _MOVES_ANYTHING:",
        "if opaque:",
        _trap("a_table_that_is_altered", "a_materialised_view"),
    ),
    Mutation(
        "opaque-functions",
        "routing/judge.py",
        "    opaque = any(call.opaque for call in calls)",
        "    opaque = False",
        _trap("a_function_that_writes"),
    ),
    Mutation(
        "writes-named",
        "routing/judge.py",
        "    written = statement.writes\n    inserts",
        "    written = statement.writes if statement.kind is Kind.UPDATE else frozenset()\n"
        "    inserts",
        _trap("truncate", "copy", "a_writing_cte"),
    ),
    Mutation(
        "triggers",
        "routing/relations.py",
        "if name in catalogue.triggers or name in catalogue.foreign:",
        "if name in catalogue.foreign:",
        _trap(
            "a_trigger_that_writes_another_table",
            "a_rule_that_writes_another_table",
            "a_default_or_check_that_writes_another_table",
        ),
    ),
    Mutation(
        "cascades",
        "routing/relations.py",
        "queue.extend(catalogue.cascades.get(source, ()))",
        "pass",
        _trap("what_a_foreign_key_deletes"),
    ),
    Mutation(
        "parents",
        "routing/relations.py",
        "parents = (catalogue.parents.get(name, frozenset()) for name in written)",
        "parents = (frozenset[str]() for name in written)",
        _trap("partitions_and_children"),
        [
            (
                "routing/relations.py",
                "            tables |= catalogue.children.get(name, frozenset())",
                "            tables |= frozenset[str]()",
            )
        ],
    ),
    Mutation(
        "views",
        "routing/relations.py",
        "            queue.extend(view.reads)\n            functions",
        "            functions",
        _trap("a_view_replaced_through_another_proxy"),
    ),
    Mutation(
        "row-security",
        "routing/caching.py",
        "if secured := reading.tables & catalogue.row_security:",
        "if secured := frozenset[str]():",
        _trap("a_policy_that_reads_another_table"),
    ),
    Mutation(
        "role-settings",
        "server/databases.py",
        "            self.pools.reconnect()\n        self._defaults",
        "        self._defaults",
        _trap("settings_of_a_role"),
    ),
    Mutation(
        "parameters-and-formats",
        "session/caching.py",
        "content, batch.binds[0]))",
        "content))",
        _trap("formats_of_results", "parameters"),
    ),
    Mutation(
        "written-back-once",
        "cache/writeback/applier.py",
        "        new = [one for one in waiting if one.position > applied]\n        rejected",
        "        new = list(waiting)\n        rejected",
        [f"{WRITE_BACK_FAULTS}::test_who_has_applied_dies_before_he_says_so"],
    ),
    Mutation(
        "written-back-seen",
        "routing/writing_back.py",
        "    if any(verdict.primary is not None for verdict in verdicts):",
        "    if any(verdict.primary is not None or verdict.reads for verdict in verdicts[:0]):",
        [f"{WRITE_BACK}::test_a_foreign_key_sees_what_waits"],
    ),
    _neutral("role", "roles", "a_path_that_names_the_user"),
    _neutral("search_path", "search_paths"),
    _neutral("datestyle", "time_zones_and_date_styles"),
    _neutral("timezone", "time_zones_and_date_styles"),
)


def apply(mutation: Mutation, tree: Path) -> None:
    """Raises AssertionError where the guard is not to be found as it is known here."""
    for name, guard, instead in (
        (mutation.file, mutation.guard, mutation.instead),
        *mutation.also,
    ):
        file = tree / "proxy" / name
        text = file.read_text()
        assert text.count(guard) == 1, f"{mutation.name}: see {name}"
        file.write_text(text.replace(guard, instead))


def survivors(mutation: Mutation) -> list[str]:
    """The tests that pass without the guard."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        for name in ("proxy", "tests"):
            shutil.copytree(ROOT / name, tree / name)
        shutil.copy(ROOT / "pyproject.toml", tree)
        apply(mutation, tree)
        command = [sys.executable, "-m", "pytest", "-q", "--tb=no", *LONG, *mutation.tests]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        missed = [
            test
            for test in mutation.tests
            if not any(line.startswith(f"FAILED {test}") for line in done.stdout.splitlines())
        ]
        if done.returncode not in (0, 1) or "ERROR " in done.stdout:
            raise SystemExit(f"{mutation.name} can't be tried:\n{done.stdout[-2000:]}{done.stderr}")
        return missed


def main(names: Sequence[str]) -> int:
    alive = 0
    for mutation in MUTATIONS:
        if not names or mutation.name in names:
            missed = survivors(mutation)
            alive += len(missed)
            print(f"{mutation.name}: {'unnoticed by ' + ', '.join(missed) if missed else 'fails'}")
            sys.stdout.flush()
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
