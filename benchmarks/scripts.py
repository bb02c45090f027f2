"""The SQL of the scenarios: pgbench's scripts, and the tables that they need beside pgbench's."""

SCALE = 8
"""Of pgbench's tables: 800,000 accounts, which fit into a server's default shared buffers."""

ZIPF_KEYS = 10_000
SHARDED_ROWS = 100_000
COPY_ROWS = 100_000
"""Of one COPY, in or out: about 10 MB."""

LARGE_ROW = r"""
\set id random(1, 16)
SELECT body FROM bench_large WHERE id = :id;
"""
WIDE_RESULT = r"""
\set first random(1, 700000)
SELECT aid, bid, abalance, filler FROM pgbench_accounts
 WHERE aid BETWEEN :first AND :first + 9999;
"""

# Cheap, middling and dear for PostgreSQL: about 0.1, 5 and 50 ms on one core. Keys are few enough
# that every answer stays in a cache.
CHEAP_KEYS, MIDDLING_KEYS, DEAR_KEYS = 1000, 50, 20
CHEAP = r"""
\set aid random(1, 1000)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""
MIDDLING = r"""
\set block random(1, 50)
SELECT count(*), sum(abalance), max(abalance) FROM pgbench_accounts
 WHERE aid BETWEEN :block * 15000 AND :block * 15000 + 35000;
"""
DEAR = r"""
\set block random(1, 20)
SELECT count(*), sum(abalance), max(abalance) FROM pgbench_accounts
 WHERE aid BETWEEN :block * 20000 AND :block * 20000 + 350000;
"""

# No two of these texts are known by the same plan: they differ in a name, which no scanner leaves
# out.
NEW_TEXTS = r"""
\set n random(1, 1000000000)
SELECT a.abalance AS a:n, b.bbalance, t.tbalance FROM pgbench_accounts a
 JOIN pgbench_branches b USING (bid) JOIN pgbench_tellers t ON t.bid = b.bid AND t.tid = 3
 WHERE a.aid = 4711 AND (b.bbalance >= 0 OR t.tbalance < 0) ORDER BY 1, 2, 3 LIMIT 5;
"""

ZIPF_READ = r"""
\set k random_zipfian(1, 10000, 1.1)
SELECT v FROM bench_zipf WHERE k = :k;
"""
ZIPF_WRITE = r"""
\set k random_zipfian(1, 10000, 1.1)
UPDATE bench_zipf SET v = v + 1 WHERE k = :k;
"""

SHARDED_READ = r"""
\set id random(1, 100000)
SELECT v FROM bench_sharded WHERE id = :id;
"""

# COPY of pgbench_accounts' rows, as psql's \copy runs it.
COPY_OUT = rf"\copy (SELECT * FROM pgbench_accounts LIMIT {COPY_ROWS}) TO '/dev/null'"

_OWNED = "SET ROLE {owner};\n"

TABLES = (
    _OWNED
    + f"""\
CREATE TABLE bench_large (id int PRIMARY KEY, body text STORAGE EXTERNAL);
INSERT INTO bench_large
  SELECT id, repeat(md5(id::text), 32768) FROM generate_series(1, 16) AS id;
CREATE TABLE bench_zipf (k int PRIMARY KEY, v int NOT NULL) WITH (fillfactor = 50);
INSERT INTO bench_zipf SELECT k, 0 FROM generate_series(1, {ZIPF_KEYS}) AS k;
CREATE TABLE bench_sharded (id bigint PRIMARY KEY, v text NOT NULL);
INSERT INTO bench_sharded SELECT id, md5(id::text) FROM generate_series(1, {SHARDED_ROWS}) AS id;
CREATE UNLOGGED TABLE bench_copy_0 (LIKE pgbench_accounts);
CREATE UNLOGGED TABLE bench_copy_1 (LIKE pgbench_accounts);
RESET ROLE;
VACUUM ANALYZE bench_large, bench_zipf, bench_sharded;
"""
)
"""On the primary. `bench_sharded` is there whole, for those who don't shard."""

SHARD_TABLES = (
    _OWNED
    + f"""\
CREATE TABLE bench_sharded (id bigint PRIMARY KEY, v text NOT NULL);
CREATE TABLE bench_map (id bigint) PARTITION BY HASH (id);
INSERT INTO bench_sharded
  SELECT id, md5(id::text) FROM generate_series(1::bigint, {SHARDED_ROWS}) AS id
  WHERE satisfies_hash_partition('bench_map'::regclass, {{shards}}, {{number}}, id);
RESET ROLE;
VACUUM ANALYZE bench_sharded;
"""
)
"""On each shard: the rows whose key's hash has its number as remainder."""
