"""Django, configured for one database behind a target; see `configure`."""

import django
from django.conf import settings

from tests.compat.targets import Target


def configure(target: Target, migrations: str) -> None:
    """Set Django up. Once per process: Django has one configuration.

    `migrations`: the package in which `makemigrations` finds and makes the shop's migrations.
    """
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "HOST": target.host,
                "PORT": target.port,
                "NAME": target.database.name,
                "USER": target.user,
                "PASSWORD": target.password,
            }
        },
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "django.contrib.postgres",
            "tests.compat.django_shop",
        ],
        MIGRATION_MODULES={"django_shop": migrations},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        SECRET_KEY="only for tests",
        USE_TZ=True,
    )
    django.setup()
