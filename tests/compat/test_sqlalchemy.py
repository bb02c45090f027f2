"""SQLAlchemy 2 over psycopg and over asyncpg, at its defaults."""

import asyncio
import datetime
import enum
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import (
    ARRAY,
    Engine,
    ForeignKey,
    Integer,
    String,
    Uuid,
    create_engine,
    event,
    exc,
    func,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.orm.exc import StaleDataError

from tests.compat.targets import Target


class Base(DeclarativeBase):
    """The tables of these tests."""


class State(enum.Enum):
    """Becomes a type of PostgreSQL's."""

    NEW = "new"
    PAID = "paid"


class Customer(Base):
    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True)
    about: Mapped[dict[str, object]] = mapped_column(JSONB, default=dict)
    orders: Mapped[list["Order"]] = relationship(
        back_populates="customer", cascade="all, delete-orphan"
    )


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), index=True)
    state: Mapped[State] = mapped_column(default=State.NEW)
    amounts: Mapped[list[int]] = mapped_column(ARRAY(Integer), default=list)
    placed: Mapped[datetime.datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(default=1)
    customer: Mapped[Customer] = relationship(back_populates="orders")
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012


class Event(Base):
    __tablename__ = "events"
    id: Mapped[str] = mapped_column(Uuid, primary_key=True, server_default=func.gen_random_uuid())
    number: Mapped[int]


@pytest.fixture(scope="module")
def engine(target: Target) -> Iterator[Engine]:
    engine = create_engine(target.dsn("postgresql+psycopg"), pool_pre_ping=True)
    Base.metadata.create_all(engine)
    target.settle()
    yield engine
    Base.metadata.drop_all(engine)
    engine.dispose()


@pytest.fixture
async def async_engine(target: Target, engine: Engine) -> AsyncIterator[AsyncEngine]:
    made = create_async_engine(target.dsn("postgresql+asyncpg"), pool_pre_ping=True)
    yield made
    await made.dispose()


@pytest.fixture(autouse=True)
def _empty(target: Target, engine: Engine) -> None:
    target.prepare("TRUNCATE customers, orders, events RESTART IDENTITY CASCADE")


def _customers(count: int) -> list[Customer]:
    return [
        Customer(name=f"c{n}", about={"n": n}, orders=[Order(amounts=[n, n]) for _ in range(3)])
        for n in range(count)
    ]


def test_unit_of_work_and_relationships(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all(_customers(10))
        session.commit()
        loaded = session.scalars(
            select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)
        ).all()
        assert [len(one.orders) for one in loaded] == [3] * 10
        joined = session.scalars(select(Customer).options(joinedload(Customer.orders))).unique()
        assert sum(len(one.orders) for one in joined) == 30
        first = loaded[0]
        assert (first.about, first.orders[0].state) == ({"n": 0}, State.NEW)
        first.orders[0].state = State.PAID
        del first.orders[1]
        session.commit()
        assert session.scalar(select(func.count()).select_from(Order)) == 29
        paid = select(Order).where(Order.state == State.PAID)
        assert [order.customer.name for order in session.scalars(paid)] == ["c0"]
        session.delete(first)
        session.commit()
        assert session.scalar(select(func.count()).select_from(Order)) == 27


def test_sessions_see_their_own_writes(engine: Engine) -> None:
    with engine.connect() as connection:
        session = Session(connection)
        for n in range(30):
            session.add(Customer(name=f"own{n}"))
            session.commit()
            found = session.scalar(select(Customer.name).where(Customer.name == f"own{n}"))
            assert found == f"own{n}"


def test_bulk_insert_and_returning(engine: Engine) -> None:
    with Session(engine) as session:
        rows = [{"name": f"bulk{n}", "about": {}} for n in range(2500)]
        ids = session.scalars(
            insert(Customer).returning(Customer.id, sort_by_parameter_order=True), rows
        ).all()
        assert ids == list(range(1, 2501))
        changed = session.execute(
            update(Customer)
            .where(Customer.id <= 5)
            .values(name=Customer.name + "!")
            .returning(Customer.name)
        ).scalars()
        assert sorted(changed) == [f"bulk{n}!" for n in range(5)]
        statement = upsert(Customer).values(name="bulk7", about={"again": True})
        statement = statement.on_conflict_do_update(
            index_elements=["name"], set_={"about": statement.excluded.about}
        )
        session.execute(statement)
        session.commit()
        about = session.scalar(select(Customer.about).where(Customer.name == "bulk7"))
        assert about == {"again": True}


def test_savepoints_and_errors(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(Customer(name="same"))
        session.flush()
        with pytest.raises(exc.IntegrityError):
            _add_in_savepoint(session, "same")
        _add_in_savepoint(session, "other")
        session.commit()
        names = session.scalars(select(Customer.name).order_by(Customer.id)).all()
        assert names == ["same", "other"]
    with Session(engine) as session, pytest.raises(exc.ProgrammingError):
        session.execute(text("SELECT * FROM nowhere"))


def _add_in_savepoint(session: Session, name: str) -> None:
    with session.begin_nested():
        session.add(Customer(name=name))
        session.flush()


def test_a_version_that_has_moved_on_is_noticed(engine: Engine) -> None:
    with Session(engine) as session:
        session.add_all(_customers(1))
        session.commit()
        order = session.scalars(select(Order)).first()
        assert order is not None
        with engine.begin() as other:
            other.execute(update(Order).values(version=9))
        order.state = State.PAID
        with pytest.raises(StaleDataError):
            session.flush()


def test_reflection(engine: Engine) -> None:
    seen = inspect(engine)
    assert set(seen.get_table_names()) == {"customers", "orders", "events"}
    columns = {one["name"]: str(one["type"]) for one in seen.get_columns("orders")}
    assert (columns["amounts"], columns["placed"]) == ("ARRAY", "TIMESTAMP")
    (key,) = seen.get_foreign_keys("orders")
    assert key["referred_table"] == "customers"
    assert [one["name"] for one in seen.get_indexes("orders")] == ["ix_orders_customer_id"]
    assert [one["column_names"] for one in seen.get_unique_constraints("customers")] == [["name"]]
    assert [one["name"] for one in seen.get_enums()] == ["state"]  # type: ignore[attr-defined]


def test_tables_made_dropped_and_reflected_in_turn(engine: Engine) -> None:
    for n in range(5):
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE turn_{n} (id int PRIMARY KEY, n{n} text)"))
            columns = inspect(connection).get_columns(f"turn_{n}")
            assert [one["name"] for one in columns] == ["id", f"n{n}"]
            connection.execute(text(f"DROP TABLE turn_{n}"))


def test_streaming(engine: Engine) -> None:
    with engine.connect() as connection:
        query = text("SELECT n, repeat('x', 100) FROM generate_series(1, 30000) n")
        result = connection.execution_options(yield_per=500).execute(query)
        assert sum(len(part) for part in result.partitions()) == 30000
    with Session(engine) as session:
        session.add_all(_customers(20))
        session.commit()
        streamed = session.scalars(select(Order).execution_options(yield_per=7))
        assert len(list(streamed)) == 60


@pytest.mark.parametrize("level", ["SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED"])
def test_isolation_levels(engine: Engine, level: str) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == level.lower()
        connection.execute(insert(Event).values(number=1))
        connection.commit()
        assert connection.scalar(select(func.count()).select_from(Event)) == 1
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"


def test_autocommit(engine: Engine) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for n in range(20):
            connection.execute(insert(Event).values(number=n))
            assert connection.scalar(select(func.max(Event.number))) == n
        connection.execute(text("VACUUM events"))


def test_a_session_setting_on_each_connect(target: Target) -> None:
    engine = create_engine(target.dsn("postgresql+psycopg"), pool_size=3)

    @event.listens_for(engine, "connect")
    def _on_connect(connection: object, _: object) -> None:
        with connection.cursor() as cursor:  # type: ignore[attr-defined]
            cursor.execute("SET timezone = 'Japan'")
        connection.commit()  # type: ignore[attr-defined]

    for _ in range(10):
        with engine.connect() as one, engine.connect() as other:
            assert [c.scalar(text("SHOW timezone")) for c in (one, other)] == ["Japan"] * 2
    engine.dispose()


async def test_async_sessions(async_engine: AsyncEngine) -> None:
    async with AsyncSession(async_engine, expire_on_commit=False) as session:
        session.add_all(_customers(10))
        await session.commit()
        query = select(Customer).options(selectinload(Customer.orders)).order_by(Customer.id)
        loaded = (await session.scalars(query)).all()
        assert [len(one.orders) for one in loaded] == [3] * 10
        loaded[0].orders[0].state = State.PAID
        await session.commit()
        paid = select(func.count()).select_from(Order).where(Order.state == State.PAID)
        assert await session.scalar(paid) == 1
        streamed = await session.stream_scalars(select(Order.id).order_by(Order.id))
        assert [one async for one in streamed] == list(range(1, 31))


async def test_async_tasks_over_one_pool(async_engine: AsyncEngine) -> None:
    async def work(number: int) -> list[int]:
        async with AsyncSession(async_engine) as session, session.begin():
            for n in range(10):
                session.add(Event(number=number * 100 + n))
            await session.flush()
            mine = select(Event.number).where(Event.number.between(number * 100, number * 100 + 99))
            return sorted(await session.scalars(mine))

    found = await asyncio.gather(*map(work, range(20)))
    assert found == [[number * 100 + n for n in range(10)] for number in range(20)]


async def test_async_bulk_savepoints_and_reflection(async_engine: AsyncEngine) -> None:
    async with async_engine.begin() as connection:
        await connection.execute(insert(Event), [{"number": n} for n in range(1500)])
        savepoint = await connection.begin_nested()
        with pytest.raises(exc.DBAPIError):
            await connection.execute(text("SELECT 1/0"))
        await savepoint.rollback()
        assert await connection.scalar(select(func.count()).select_from(Event)) == 1500
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
        assert set(tables) == {"customers", "orders", "events"}


async def test_async_isolation_levels(async_engine: AsyncEngine) -> None:
    for level in ("SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT"):
        async with async_engine.connect() as connection:
            await connection.execution_options(isolation_level=level)
            shown = await connection.scalar(text("SHOW transaction_isolation"))
            assert shown == ("read committed" if level == "AUTOCOMMIT" else level.lower())
            await connection.execute(insert(Event).values(number=1))
            await connection.commit()
