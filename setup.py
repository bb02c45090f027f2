"""Compiles the hot path with mypyc where a C compiler is at hand; without one it is interpreted.

The same source serves both forms. `PENSTOCK_COMPILE=no` asks for the interpreted form,
`PENSTOCK_COMPILE=yes` makes a failure to compile an error instead of a warning.
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED_PACKAGES = ("net", "pool", "cache", "session")
INTERPRETED = {
    "__init__.py",
    "calls.py",
    "certificates.py",
    "cluster.py",
    "contexts.py",
    "dialing.py",
    "endpoint.py",
    "fast_path.py",
    "hostname.py",
    "kernel.py",
    "manager.py",
    "places.py",
    "sentinel.py",
    "service.py",
    "site.py",
}
"""Nothing to gain there, as no query passes through, or what mypyc doesn't know (asynchronous
generators, extending classes of the standard library)."""
IN_C = ("net/_kernel", "net/_fast_path", "wire/_scan", "sql/_skeleton")
"""What loops over bytes or calls the kernel; each has its equal in Python beside it."""
COLD = str(Path("proxy", "cold.h").resolve())
"""Tells the C compiler which of mypyc's functions are seldom called, with the code that does."""
COMPILED_MODULES = (
    "wire/framing.py",
    "wire/messages.py",
    "wire/startup.py",
    "wire/scram.py",
    "wire/passwords.py",
    "wire/client_login.py",
    "wire/server_login.py",
    "wire/cancel_key.py",
    "auth/hba.py",
    "auth/state.py",
    "auth/throttle.py",
    "auth/verifiers.py",
    "auth/authentication.py",
    "topology/node.py",
    "topology/counters.py",
    "routing/plan.py",
    "routing/route.py",
    "routing/decide.py",
    "sql/normalise.py",
)
HOT = (
    "net___channel",
    "net___clock",
    "wire___framing",
    "wire___messages",
    "session___intake",
    "session___batch",
    "session___session",
    "session___answering",
    "session___asking",
    "session___downstream",
    "session___recipient",
    "session___plans",
    "session___upstream",
    "session___link",
    "session___relay",
    "session___settlement",
    "session___combine",
    "session___transaction",
    "session___caching",
    "session___answers",
    "pool___pool",
    "pool___lending",
    "pool___backend",
    "pool___settings_state",
    "routing___plan",
    "routing___route",
    "routing___decide",
    "sql___normalise",
    "topology___node",
    "topology___counters",
    "cache___tier",
    "cache___lookups",
    "cache___fills",
    "cache___results",
    "cache___connection",
    "session___fast_rings",
    "session___fast_sessions",
)
"""What each query passes through. The rest is optimised less: on the largest file that took the C
compiler 2.6 s instead of 4.2."""
MYPY_CONFIGURATION = """
[mypy]
ignore_missing_imports = True
follow_imports = silent
[mypy-sqlglot.*,redis.*,pydantic.*,pydantic_core.*,aiohttp.*,asyncpg.*,prometheus_client.*,typer.*,rich.*,psutil.*]
follow_imports = skip
"""
"""For mypyc. The project's own names a plugin that a build need not have. What is skipped takes two
thirds of mypy's time; the C code is the same but for how a key is read (`cache.codec`)."""


def sources() -> list[str]:
    """The modules to compile. Packages go whole: a compiled class has only compiled subclasses."""
    packages = [
        path
        for package in COMPILED_PACKAGES
        for path in sorted(Path("proxy", package).glob("*.py"))
        if path.name not in INTERPRETED
    ]
    return [str(path) for path in (*packages, *(Path("proxy", one) for one in COMPILED_MODULES))]


def obstacle() -> str | None:
    """Why nothing can be compiled here."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"there is no C compiler ({compiler})"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        return "Python's headers are not installed"
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return "mypy is not installed"
    return None


def extensions() -> list[object]:
    """What to compile, nothing where that isn't wanted or can't be done."""
    wanted = os.environ.get("PENSTOCK_COMPILE", "auto")
    if wanted == "no" or not {"build", "build_ext", "bdist_wheel"} & set(sys.argv):
        return []
    reason = obstacle()
    if reason is not None:
        if wanted == "yes":
            raise SystemExit(f"PENSTOCK_COMPILE=yes, but {reason}")
        print(f"Penstock will run interpreted: {reason}", file=sys.stderr)
        return []
    from mypyc.build import mypycify

    with NamedTemporaryFile("w", suffix=".ini") as configuration:
        configuration.write(MYPY_CONFIGURATION)
        configuration.flush()
        compiled = mypycify(
            [f"--config-file={configuration.name}", *sources()],
            opt_level="2",
            debug_level="0",
            multi_file=True,
        )
    if sys.platform == "linux":
        for one in compiled:  # calls from file to file of the one library need no detour
            common = ["-fno-semantic-interposition", "-include", COLD]
            one.extra_compile_args = [*one.extra_compile_args, *common]
            one.extra_link_args = [*one.extra_link_args, "-Wl,-Bsymbolic-functions"]
    return [*compiled, *(_in_c(module) for module in IN_C)]


class BuildExtensions(build_ext):
    """Compiles the many C files of the one large extension side by side, and only what is new."""

    def build_extension(self, ext: Extension) -> None:
        compiler = self.compiler
        if hasattr(compiler, "_compile") and not hasattr(compiler, "penstock_ready"):
            compiler.penstock_ready = True
            compiler.compile = _side_by_side(compiler)
        super().build_extension(ext)


def _side_by_side(compiler: Any) -> Any:
    """A method `compile` for this compiler, with the arguments of its own."""

    def compile_(
        sources: Sequence[str],
        output_dir: str | None = None,
        macros: Any = None,
        include_dirs: Any = None,
        debug: bool = False,
        extra_preargs: Any = None,
        extra_postargs: Any = None,
        depends: Any = None,
    ) -> list[str]:
        macros, objects, extra_postargs, options, build = compiler._setup_compile(
            output_dir, macros, include_dirs, sources, depends, extra_postargs
        )
        arguments = compiler._get_cc_args(options, debug, extra_preargs)
        shared = max((_changed_at(one) for one in _shared_by_all(include_dirs or [])), default=0.0)

        def one(made: str) -> None:
            source, extension = build[made]
            if _changed_at(made) <= max(_changed_at(source), shared):
                part = f"{made}.part.o"  # what an interruption leaves must not look like the whole
                after = [*(extra_postargs or ()), *_optimisation(source)]
                compiler._compile(part, source, extension, arguments, after, options)
                os.replace(part, made)

        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            list(threads.map(one, build))
        return list(objects)

    return compile_


def _optimisation(source: str) -> list[str]:
    """Options of the C compiler that follow the others."""
    name = Path(source).stem
    generated = name.startswith("__native_proxy___")
    return ["-O1"] if generated and not name.endswith(HOT) else []


def _shared_by_all(include_dirs: Sequence[str]) -> list[Path]:
    """What every object depends on: the headers that mypyc makes and brings, and this file."""
    folders = [Path("build"), *map(Path, include_dirs)]
    found = [one for folder in folders for one in folder.glob("*.h")]
    return [*found, Path("setup.py"), Path(COLD), Path("requirements-build.txt")]


def _changed_at(file: str | Path) -> float:
    try:
        return os.stat(file).st_mtime
    except FileNotFoundError:
        return 0.0


def _in_c(module: str) -> Extension:
    return Extension(
        "proxy." + module.replace("/", "."),
        [f"proxy/{module}.c"],
        depends=[str(one) for one in Path("proxy").rglob("*.h")],
        extra_compile_args=["-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"],
    )


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
