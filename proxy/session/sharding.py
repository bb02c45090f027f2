"""The shard of a batch, from its statement's literals or its bound parameters."""

from proxy.routing.plan import Plan, ShardPlan
from proxy.routing.route import ShardRefused
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters
from proxy.session.prepared import Prepared
from proxy.wire import errors


def shard_of(
    plan: Plan, batch: Batch, literals: tuple[bytes | None, ...], utf8: bool
) -> int | None:
    """The one shard that the batch is for, None where no table of it is sharded.

    `utf8`: whether the client writes UTF-8, as the shards' databases do.
    Raises ShardRefused where it can't be told, or where a pipeline is for several.
    """
    if plan.shard is None:
        return None
    if batch.text is not None:
        return _resolve(plan.shard, literals, (), (), utf8)
    shards = {
        _of_statement(prepared, bind, utf8)
        for prepared, bind in zip(batch.bound, batch.binds, strict=True)
        if prepared.plan is None or prepared.plan.touches_tables
    }
    if not shards:
        return plan.shard.shard or 0  # Parse or Describe alone: the table is the same everywhere
    if len(shards) > 1:
        raise ShardRefused(
            errors.FEATURE_NOT_SUPPORTED,
            "statements for different shards stand before one Sync",
            "put a Sync (a pipeline's end) between them: they can't be one transaction",
        )
    return shards.pop()


def _of_statement(prepared: Prepared, bind: bytes, utf8: bool) -> int:
    sharded = None if prepared.plan is None else prepared.plan.shard
    if sharded is None:
        raise ShardRefused(
            errors.FEATURE_NOT_SUPPORTED,
            "a pipeline mixes statements on sharded tables with others",
            "put a Sync (a pipeline's end) between them",
        )
    parameters = decode_parameters(bind)
    values = parameters.values + prepared.literals
    formats = _formats(parameters.formats, prepared.literals, len(parameters.values))
    return _resolve(sharded, values, formats, prepared.oids, utf8)


def _resolve(
    sharded: ShardPlan,
    values: tuple[bytes | None, ...],
    formats: tuple[int, ...],
    oids: tuple[int, ...],
    utf8: bool,
) -> int:
    if sharded.shard is not None:
        return sharded.shard
    if not utf8 and not all(value is None or value.isascii() for value in values):
        raise ShardRefused(
            errors.FEATURE_NOT_SUPPORTED,
            "a key that is not ASCII can't be placed while client_encoding is not UTF8",
            "set client_encoding to UTF8",
        )
    return sharded.resolve(values, formats, oids)


def _formats(
    formats: tuple[int, ...], literals: tuple[bytes | None, ...], count: int
) -> tuple[int, ...]:
    """Format codes for parameters followed by literals, which are text."""
    if not literals:
        return formats
    if len(formats) == 1:
        formats = formats * count
    return (formats or (0,) * count) + (0,) * len(literals)
