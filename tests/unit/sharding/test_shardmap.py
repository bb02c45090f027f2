"""The shard map of a configuration."""

import struct

import pytest

from proxy.config.settings import ShardedTable, ShardingSettings, ShardSettings
from proxy.routing.route import ShardRefused
from proxy.sharding.hash import shard_of
from proxy.sharding.shardmap import HashShardMap
from proxy.sql.statement import Literal, TableRef

ACCOUNTS = TableRef("accounts")


def _map(enabled: bool = True) -> HashShardMap:
    return HashShardMap(
        ShardingSettings(
            enabled=enabled,
            shards=(ShardSettings(port=1), ShardSettings(port=2), ShardSettings(port=3)),
            table=(
                ShardedTable(name="accounts", key="id"),
                ShardedTable(name="notes", key="owner", type="text"),
            ),
        )
    )


def test_tables_and_their_keys() -> None:
    shards = _map()
    assert shards.count == 3
    assert shards.tables == {"accounts", "notes"}
    assert shards.key_column(ACCOUNTS) == "id"
    assert shards.key_column(TableRef("accounts", "any_schema")) == "id"
    assert shards.key_column(TableRef("notes")) == "owner"
    assert shards.key_column(TableRef("notes", "crm")) == "owner"
    assert shards.key_column(TableRef("users")) is None


def test_sharding_that_is_off_knows_no_table() -> None:
    shards = _map(enabled=False)
    assert shards.count == 0
    assert shards.key_column(ACCOUNTS) is None


def test_one_value_has_one_shard_however_it_is_written() -> None:
    shards, expected = _map(), shard_of(42, 3)
    assert shards.shard_of_literal(ACCOUNTS, Literal("42", quoted=False)) == expected
    assert shards.shard_of_literal(ACCOUNTS, Literal(" 0x2a ")) == expected
    assert shards.shard_of_parameter(ACCOUNTS, b"42", False, 0, None) == expected
    assert shards.shard_of_parameter(ACCOUNTS, b"42", False, 23, None) == expected
    binary = struct.pack("!q", 42)
    assert shards.shard_of_parameter(ACCOUNTS, binary, True, 20, None) == expected
    assert shards.shard_of_parameter(ACCOUNTS, binary[4:], True, 0, "int4") == expected


def test_null_and_what_is_out_of_range_have_no_shard() -> None:
    shards = _map()
    assert shards.shard_of_literal(ACCOUNTS, Literal(None)) is None
    assert shards.shard_of_literal(ACCOUNTS, Literal("9" * 20, quoted=False)) is None
    assert shards.shard_of_parameter(ACCOUNTS, None, False, 0, None) is None


def test_a_refusal_names_table_column_and_reason() -> None:
    shards = _map()
    with pytest.raises(ShardRefused) as refused:
        shards.shard_of_parameter(ACCOUNTS, b"4.0", False, 0, None)
    assert refused.value.sqlstate == "22P02"
    assert "accounts.id" in refused.value.message
    assert "'4.0' is not a whole number" in refused.value.message
    assert "bigint" in refused.value.hint
    with pytest.raises(ShardRefused) as refused:
        shards.shard_of_parameter(ACCOUNTS, b"4.0", False, 1700, None)
    assert refused.value.sqlstate == "0A000"
