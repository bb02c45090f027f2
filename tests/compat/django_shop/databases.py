"""A Django test run's databases, made and dropped twice: run as a program by
test_django_databases.

Environment: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE.
"""

import os

import django
from django.conf import settings
from django.db import connection


def main() -> None:
    """Create, migrate, clone as for parallel tests, use and drop."""
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": os.environ["PGHOST"],
                "PORT": os.environ["PGPORT"],
                "NAME": os.environ["PGDATABASE"],
                "USER": os.environ["PGUSER"],
                "PASSWORD": os.environ["PGPASSWORD"],
            }
        },
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
        SECRET_KEY="only for tests",
    )
    django.setup()
    from django.contrib.auth.models import Group

    before = connection.settings_dict["NAME"]
    for _ in range(2):
        name = connection.creation.create_test_db(verbosity=0, autoclobber=True)
        assert not Group.objects.exists()
        Group.objects.create(name=name)
        connection.creation.clone_test_db(suffix="1", verbosity=0)
        assert list(Group.objects.values_list("name", flat=True)) == [name]
        connection.creation.destroy_test_db(suffix="1", verbosity=0)
        connection.creation.destroy_test_db(before, verbosity=0)
    # A run that was killed left its database behind, in use by nobody.
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    connection.close()
    connection.settings_dict["NAME"] = before
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    connection.creation.destroy_test_db(before, verbosity=0)


if __name__ == "__main__":
    main()
