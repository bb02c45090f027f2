"""Settings for Django's own tests, and a runner that records outcomes as `penstock_record` does.

Stands alone: it is loaded into Django's test run, in that run's environment.
"""

# mypy: ignore-errors
# Django is no dependency of Penstock's, and has no types.

import json
import os
import signal
import unittest
from types import FrameType

from django.db.backends.postgresql.features import DatabaseFeatures
from django.test.runner import DiscoverRunner

# Not every server has collations of ICU.
DatabaseFeatures.test_collations = dict.fromkeys(DatabaseFeatures.test_collations, "C")

FILE = os.environ["PENSTOCK_RECORD"]
SECONDS = int(os.environ["PENSTOCK_TEST_SECONDS"])

_SERVER = {
    "ENGINE": "django.db.backends.postgresql",
    "HOST": os.environ["PGHOST"],
    "PORT": os.environ["PGPORT"],
    "USER": os.environ["PGUSER"],
    "PASSWORD": os.environ["PGPASSWORD"],
}
DATABASES = {
    "default": {**_SERVER, "NAME": os.environ["PGDATABASE"]},
    "other": {**_SERVER, "NAME": os.environ["PGDATABASE"] + "_other"},
}
SECRET_KEY = "for tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TEST_RUNNER = "penstock_django.Runner"


def _write(record: dict[str, object]) -> None:
    with open(FILE, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"the test took longer than {SECONDS} s")


class Result(unittest.TextTestResult):
    """Records each test; one that can't end is ended."""

    def startTest(self, test: unittest.TestCase) -> None:
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        super().startTest(test)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._note(test, "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test, err) -> None:
        super().addExpectedFailure(test, err)
        self._note(test, "skipped", "an expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._note(test, "failed", "an unexpected success")

    def addFailure(self, test, err) -> None:
        super().addFailure(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addError(self, test, err) -> None:
        super().addError(test, err)
        self._note(test, "failed", self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._note(test, "failed", self._exc_info_to_string(err, test))

    def _note(self, test: unittest.TestCase, outcome: str, text: str = "") -> None:
        _write({"test": test.id(), "outcome": outcome, "text": text[-2000:]})


class Runner(DiscoverRunner):
    """Django's, with results recorded."""

    def get_resultclass(self) -> type[Result]:
        return Result

    def setup_databases(self, **kwargs):
        """The migrations of `postgres_tests` want an extension that not every server has."""
        from django.contrib.postgres.operations import CreateExtension

        create = CreateExtension.database_forwards

        def create_unless_missing(self, *arguments):
            if self.name != "uuid-ossp":
                create(self, *arguments)

        CreateExtension.database_forwards = create_unless_missing
        return super().setup_databases(**kwargs)

    def build_suite(self, *args, **kwargs) -> unittest.TestSuite:
        suite = super().build_suite(*args, **kwargs)
        _write({"total": suite.countTestCases()})
        return suite
