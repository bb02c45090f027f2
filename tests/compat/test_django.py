"""Django's ORM over psycopg 3 at its defaults: server-side cursors on, persistent connections off.

Django's documentation asks for DISABLE_SERVER_SIDE_CURSORS behind a pooler with transaction
pooling; here they must work as they are.
"""

import datetime
import sys
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import (
    DataError,
    IntegrityError,
    close_old_connections,
    connection,
    connections,
    transaction,
)
from django.db.models import Avg, Count, F, OuterRef, Q, Subquery, Sum, Window
from django.db.models.functions import Rank

from tests.compat.django_shop.settings import configure
from tests.compat.targets import Target

BOOKS = 300


@pytest.fixture(scope="module")
def shop(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application's models, its tables made by migrations."""
    directory = tmp_path_factory.mktemp("django")
    package = directory / "shop_migrations"
    package.mkdir()
    (package / "__init__.py").touch()
    sys.path.insert(0, str(directory))
    configure(target, package.name)
    from tests.compat.django_shop import models

    call_command("makemigrations", "django_shop", verbosity=0)
    call_command("migrate", verbosity=0)
    _second_migration(package)
    call_command("migrate", verbosity=0)
    target.settle()
    yield models
    connections.close_all()
    sys.path.remove(str(directory))


def _second_migration(package: Path) -> None:
    """Data and schema in one transaction, with an index made outside of one afterwards."""
    (package / "0002_more.py").write_text(
        "from django.db import migrations\n"
        "def fill(apps, editor):\n"
        "    Author = apps.get_model('django_shop', 'Author')\n"
        "    Author.objects.create(name='from a migration')\n"
        "class Migration(migrations.Migration):\n"
        "    dependencies = [('django_shop', '0001_initial')]\n"
        "    operations = [migrations.RunPython(fill, migrations.RunPython.noop),\n"
        "        migrations.RunSQL('ALTER TABLE shop_author ADD COLUMN extra int DEFAULT 7',\n"
        "                          'ALTER TABLE shop_author DROP COLUMN extra')]\n"
    )
    (package / "0003_index.py").write_text(
        "from django.contrib.postgres.operations import AddIndexConcurrently\n"
        "from django.db import migrations, models\n"
        "class Migration(migrations.Migration):\n"
        "    atomic = False\n"
        "    dependencies = [('django_shop', '0002_more')]\n"
        "    operations = [AddIndexConcurrently('book',\n"
        "        models.Index(fields=['title'], name='shop_book_title'))]\n"
    )


@pytest.fixture(autouse=True)
def books(shop: Any, target: Target) -> Any:
    """The model, with a known set of rows."""
    shop.Author.objects.all().delete()
    authors = shop.Author.objects.bulk_create([shop.Author(name=f"author {n}") for n in range(10)])
    shop.Book.objects.bulk_create(
        [
            shop.Book(
                title=f"book {n:03}",
                author=authors[n % 10],
                price=Decimal(n) / 2,
                stock=n % 7,
                tags=["even" if n % 2 == 0 else "odd"],
                facts={"n": n, "deep": {"mod": n % 3}},
            )
            for n in range(BOOKS)
        ],
        batch_size=100,
    )
    target.settle()
    return shop.Book


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run `work` in threads, each with a connection of its own; the first failure is raised."""
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_migrations_were_applied_and_can_be_taken_back(shop: Any) -> None:
    with connection.cursor() as cursor:
        names = {table.name for table in connection.introspection.get_table_list(cursor)}
        columns = [
            one.name
            for one in connection.introspection.get_table_description(cursor, "shop_author")
        ]
        keys = connection.introspection.get_constraints(cursor, "shop_book")
    assert {"shop_author", "shop_book", "auth_user", "django_session"} <= names
    assert columns == ["id", "name", "born", "extra"]
    assert {"stock_not_negative", "shop_book_title"} <= set(keys)
    call_command("migrate", "django_shop", "0001", verbosity=0)
    call_command("migrate", "django_shop", verbosity=0)
    assert shop.Author.objects.filter(name="from a migration").exists()


def test_queries_and_aggregates(shop: Any, books: Any) -> None:
    assert books.objects.count() == BOOKS
    assert books.objects.filter(title__icontains="BOOK 00").count() == 10
    assert books.objects.filter(Q(tags__contains=["even"]) & ~Q(stock=0)).exists()
    assert books.objects.filter(facts__deep__mod=1).count() == 100
    totals = books.objects.aggregate(Sum("stock"), Avg("price"), n=Count("author", distinct=True))
    assert (totals["n"], totals["price__avg"]) == (10, Decimal("74.75"))
    per_author = shop.Author.objects.annotate(n=Count("books")).values_list("n", flat=True)
    assert list(per_author) == [30] * 10
    newest = books.objects.filter(author=OuterRef("pk")).order_by("-price").values("title")[:1]
    top = shop.Author.objects.annotate(top=Subquery(newest)).order_by("name").first()
    assert top.top == "book 290"
    ranked = books.objects.annotate(
        rank=Window(Rank(), partition_by=F("author"), order_by=F("price").desc())
    )
    assert max(one.rank for one in ranked) == 30
    assert len(list(shop.Author.objects.prefetch_related("books"))) == 10
    joined = books.objects.select_related("author").get(title="book 123")
    assert joined.author.name == "author 3"
    assert books.objects.union(books.objects.filter(stock=1)).count() == BOOKS
    assert "shop_book" in books.objects.filter(pk=1).explain(analyze=True)


def test_a_connection_reads_its_own_writes(books: Any) -> None:
    book = books.objects.first()
    for n in range(60):
        book.title = f"turn {n}"
        book.save(update_fields=["title"])
        assert books.objects.get(pk=book.pk).title == f"turn {n}"
        books.objects.filter(pk=book.pk).update(stock=F("stock") + 1)
    assert books.objects.get(pk=book.pk).stock == book.stock + 60


def test_atomic_blocks_nest(shop: Any) -> None:
    authors = shop.Author.objects
    before = authors.count()
    with transaction.atomic():
        authors.create(name="outer")
        with pytest.raises(IntegrityError):
            _create_twice(authors)
        with transaction.atomic():
            authors.create(name="inner")
        assert authors.count() == before + 2
    assert authors.count() == before + 2
    with pytest.raises(ZeroDivisionError):
        _create_and_fail(authors)
    assert authors.count() == before + 2
    done: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append("committed"))
        with transaction.atomic(durable=False):
            assert done == []
    assert done == ["committed"]


def _create_twice(authors: Any) -> None:
    with transaction.atomic():
        authors.create(name="twice")
        authors.create(name="twice")


def _create_and_fail(authors: Any) -> None:
    with transaction.atomic():
        authors.create(name="undone")
        raise ZeroDivisionError


def test_server_side_cursors_outside_a_transaction(books: Any) -> None:
    """They are WITH HOLD cursors, so their session keeps its server connection."""
    seen = []
    for book in books.objects.order_by("pk").iterator(chunk_size=20):
        seen.append(book.title)
        if len(seen) % 50 == 0:  # other statements between the fetches
            assert books.objects.filter(pk=book.pk).exists()
    assert seen == [f"book {n:03}" for n in range(BOOKS)]
    with_authors = books.objects.prefetch_related("author").iterator(chunk_size=50)
    assert sum(one.author.name != "" for one in with_authors) == BOOKS


def test_server_side_cursors_interleaved_and_abandoned(books: Any) -> None:
    first = books.objects.order_by("pk").iterator(chunk_size=10)
    second = books.objects.order_by("-pk").iterator(chunk_size=10)
    pairs = [(next(first).title, next(second).title) for _ in range(100)]
    assert pairs[99] == ("book 099", "book 200")
    del first, second
    assert books.objects.count() == BOOKS


def test_server_side_cursors_inside_a_transaction(books: Any) -> None:
    with transaction.atomic():
        books.objects.filter(title="book 000").update(title="changed")
        titles = [one.title for one in books.objects.order_by("pk").iterator(chunk_size=7)]
    assert titles[0] == "changed"
    assert len(titles) == BOOKS


def test_server_side_cursors_of_many_threads(books: Any) -> None:
    """More threads than the pool has server connections would have to wait for one another."""

    def read(_: int) -> None:
        for _ in range(3):
            assert sum(1 for _ in books.objects.iterator(chunk_size=100)) == BOOKS

    in_threads(10, read)


def test_locked_rows(books: Any) -> None:
    pk = books.objects.first().pk

    def buy(_: int) -> None:
        for _ in range(5):
            with transaction.atomic():
                book = books.objects.select_for_update().get(pk=pk)
                book.stock += 1
                book.save(update_fields=["stock"])

    start = books.objects.get(pk=pk).stock
    in_threads(8, buy)
    with transaction.atomic():
        assert books.objects.select_for_update().get(pk=pk).stock == start + 40
        assert not _others_find_unlocked(books, pk)


def _others_find_unlocked(books: Any, pk: int) -> bool:
    found: list[bool] = []

    def look(_: int) -> None:
        with transaction.atomic():
            rows = books.objects.select_for_update(skip_locked=True).filter(pk=pk)
            found.append(bool(list(rows)))

    in_threads(1, look)
    return found[0]


def test_get_or_create_from_many_threads(shop: Any) -> None:
    made: list[bool] = []

    def create(number: int) -> None:
        for n in range(10):
            _, created = shop.Author.objects.get_or_create(name=f"shared {n}")
            made.append(created)
            _, _ = shop.Author.objects.update_or_create(
                name=f"shared {n}", defaults={"born": datetime.date(2000, 1, number + 1)}
            )

    in_threads(10, create)
    assert sum(made) == 10
    with transaction.atomic():
        assert shop.Author.objects.filter(name__startswith="shared").count() == 10


def test_bulk_operations(shop: Any, books: Any) -> None:
    rows = list(books.objects.all())
    for row in rows:
        row.stock = 3
    assert books.objects.bulk_update(rows, ["stock"], batch_size=120) == BOOKS
    assert books.objects.filter(stock=3).count() == BOOKS
    again = [shop.Author(name=f"author {n}", born=datetime.date(1999, 1, 1)) for n in range(20)]
    shop.Author.objects.bulk_create(
        again, update_conflicts=True, unique_fields=["name"], update_fields=["born"]
    )
    assert shop.Author.objects.filter(born__year=1999).count() == 20
    deleted, _ = shop.Author.objects.filter(name="author 1").delete()
    assert deleted == 31


def test_database_errors_become_djangos(books: Any, shop: Any) -> None:
    with pytest.raises(IntegrityError, match="stock_not_negative"):
        books.objects.filter(stock=0).update(stock=-1)
    with pytest.raises(DataError):
        shop.Author.objects.create(name="x" * 101)
    assert books.objects.count() == BOOKS


def test_raw_sql_and_time_zones(books: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shop_book WHERE stock = %s", [1])
        assert cursor.fetchone() == (books.objects.filter(stock=1).count(),)
        cursor.execute("SHOW timezone")
        assert cursor.fetchone() == ("UTC",)
    added = books.objects.first().added
    assert added.tzinfo is not None
    assert abs(datetime.datetime.now(datetime.UTC) - added) < datetime.timedelta(hours=1)


def test_a_request_per_connection(books: Any) -> None:
    """With CONN_MAX_AGE = 0 each request connects anew."""
    for _ in range(20):
        close_old_connections()
        assert books.objects.count() == BOOKS


def test_sessions_users_and_checks(shop: Any) -> None:
    from django.contrib.auth import get_user_model
    from django.contrib.sessions.backends.db import SessionStore

    user = get_user_model().objects.create_user("somebody", password="secret")
    assert get_user_model().objects.get(username="somebody").check_password("secret")
    session = SessionStore()
    session["user"] = user.pk
    session.save()
    assert SessionStore(session.session_key)["user"] == user.pk
    call_command("check", database=["default"])
    call_command("clearsessions")
    call_command("migrate", check_unapplied=True)
