"""The console script's entry: runs the compiled form of a source tree where that is up to date.

An installed package is what it is. In a source tree (`make setup`, an editable installation) the
sources come first for everybody but this script, which hands over to the copy that `make compiled`
makes in build/compiled, provided that it was made from exactly these sources.
"""

import hashlib
import os
import sys
from pathlib import Path
from typing import Final

_SOURCES: Final = Path(__file__).resolve().parent
_MADE_OF: Final = "made-of"
"""In the compiled tree: the fingerprint of the sources that it was compiled from."""


def main() -> None:
    """Entry point of the console script `penstock`."""
    compiled = compiled_tree(_SOURCES.parent)
    if compiled is not None:
        _hand_over(compiled)
    from proxy.cli.main import main as command

    command()


def compiled_tree(project: Path) -> Path | None:
    """The compiled copy of the sources in `project`, if there is one; one that was made from other
    sources is left alone, which is said."""
    tree = project / "build" / "compiled"
    try:
        made_of = (tree / _MADE_OF).read_text(encoding="ascii").strip()
    except OSError:
        return None
    if made_of == fingerprint(project):
        return tree
    print(
        f"penstock: the sources have changed since {tree} was compiled from them: running "
        "interpreted, at about half the speed (`make compiled` compiles them again)",
        file=sys.stderr,
    )
    return None


def fingerprint(project: Path) -> str:
    """What the sources in `project` are, and what they would be compiled for."""
    found = hashlib.sha256(f"{sys.implementation.cache_tag} {sys.platform}".encode())
    files = [*_files(project / "proxy"), project / "setup.py"]
    for file in files:
        content = file.read_bytes()
        found.update(f"{file.relative_to(project)} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(one for one in folder.rglob("*") if one.suffix in (".py", ".c", ".h"))


def _hand_over(tree: Path) -> None:
    """Run the same command on the modules of `tree`, in this process's place."""
    path = os.pathsep.join(filter(None, (str(tree), os.environ.get("PYTHONPATH"))))
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONPATH": path})


if __name__ == "__main__":
    print(fingerprint(Path(sys.argv[1])))
