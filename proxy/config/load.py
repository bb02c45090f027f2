"""Reading the configuration: the one entry to files and environment."""

from collections.abc import Mapping
from pathlib import Path

from proxy.config.checks import find
from proxy.config.document import Item, descend, place_of
from proxy.config.findings import Finding
from proxy.config.problems import ConfigError, Problem, Report, problem_at, written
from proxy.config.schema import shape_at
from proxy.config.settings import Settings
from proxy.config.sources import assemble
from proxy.config.types import SecretSources
from proxy.config.validate import validate

__all__ = ["ConfigError", "Problem", "load"]


def load(path: Path, environ: Mapping[str, str]) -> Settings:
    """The settings of the file at `path`, its includes and the `PENSTOCK_…` variables.

    Secrets written as "env:NAME" or "file:PATH" are read here, from `environ` and relative to the
    file's directory. Raises ConfigError with every problem found, in the order of files and lines.
    """
    report = Report()
    tree = assemble(path, environ, report)
    if tree is None:
        raise ConfigError(report.problems)
    settings, damaged = validate(tree, SecretSources(environ, path.parent), report)
    # With a part unread, "there is no such user" would be guessing.
    if settings is not None and report.complete:
        report.problems += [_problem(tree, finding) for finding in find(settings, damaged)]
    if report.problems or settings is None:
        raise ConfigError(_in_order(report.problems, main_file=str(path)))
    return settings


def _problem(tree: Item, finding: Finding) -> Problem:
    items = list(descend(tree, finding.path))
    present = len(items) > len(finding.path)
    shape = shape_at(Settings, finding.path)
    shown = present and shape is not None and shape.is_leaf and not shape.words.secret
    suggestion = written(finding.suggestion) if finding.suggestion else None
    return problem_at(
        place_of(tree, finding.path),
        finding.message,
        value=written(items[-1].value) if shown else None,
        allowed=finding.allowed,
        suggestion=suggestion,
    )


def _in_order(problems: list[Problem], main_file: str) -> list[Problem]:
    """The main file's problems first, then those of each file by line."""
    return sorted(problems, key=lambda p: (p.file != main_file, p.file, p.line or 0))
