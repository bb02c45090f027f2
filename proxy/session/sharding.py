"""The shard of a batch, from its statement's literals or its bound parameters."""

from proxy.routing.plan import Plan
from proxy.routing.route import ShardRefused
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters
from proxy.wire import errors


def shard_of(plan: Plan, batch: Batch, literals: tuple[bytes | None, ...]) -> int | None:
    """The one shard that the batch's statement is for, None where the plan doesn't need one.

    Raises ShardRefused where it can't be told, or where a pipeline is for several.
    """
    sharded = plan.shard
    if sharded is None or sharded.shard is not None:
        return None if sharded is None else sharded.shard
    if batch.text is not None:
        return sharded.resolve(literals, (), ())
    shards = set()
    for prepared, bind in zip(batch.bound, batch.binds, strict=True):
        own = prepared.plan.shard if prepared.plan is not None else None
        if own is None:
            raise _mixed()
        parameters = decode_parameters(bind)
        shards.add(
            own.shard
            if own.shard is not None
            else own.resolve(
                parameters.values + prepared.literals,
                _formats(parameters.formats, prepared.literals, len(parameters.values)),
                prepared.oids,
            )
        )
    if not shards:
        return 0  # Parse or Describe alone: the table is the same on every shard
    if len(shards) > 1:
        raise ShardRefused(
            errors.FEATURE_NOT_SUPPORTED,
            "statements for different shards stand before one Sync",
            "put a Sync (a pipeline's end) between them: they can't be one transaction",
        )
    return shards.pop()


def _formats(
    formats: tuple[int, ...], literals: tuple[bytes | None, ...], count: int
) -> tuple[int, ...]:
    """Format codes for parameters followed by literals, which are text."""
    if not literals:
        return formats
    if len(formats) == 1:
        formats = formats * count
    return (formats or (0,) * count) + (0,) * len(literals)


def _mixed() -> ShardRefused:
    return ShardRefused(
        errors.FEATURE_NOT_SUPPORTED,
        "a pipeline mixes statements on sharded tables with others",
        "put a Sync (a pipeline's end) between them",
    )
