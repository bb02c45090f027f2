// node-postgres (pg), pg-cursor and pg-query-stream at their defaults.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import Cursor from "pg-cursor";
import QueryStream from "pg-query-stream";

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
let client;

before(async () => {
  client = new pg.Client();
  await client.connect();
});
after(() => client.end());

test("values come back as they went", async () => {
  const values = [true, 2147483647, "9007199254740993", 1.5, "naïve 中文", Buffer.from([0, 255])];
  const { rows } = await client.query({
    text: "SELECT $1::bool, $2::int, $3::bigint, $4::float8, $5::text, $6::bytea",
    values,
    rowMode: "array",
  });
  assert.deepEqual(rows, [values]);
  const other = await client.query(
    "SELECT $1::jsonb AS j, $2::int[] AS a, $3::timestamptz AS t, NULL AS n",
    [{ a: [1] }, [1, null, 3], new Date(0)],
  );
  assert.deepEqual(other.rows, [{ j: { a: [1] }, a: [1, null, 3], t: new Date(0), n: null }]);
  assert.deepEqual(other.fields.map((field) => field.dataTypeID), [3802, 1007, 1184, 25]);
});

test("a session reads its own writes", async () => {
  await client.query("CREATE TABLE own (id int PRIMARY KEY, n int)");
  await client.query("INSERT INTO own VALUES (1, 0)");
  for (const n of numbers(1, 100)) {
    await client.query("UPDATE own SET n = $1", [n]);
    const { rows } = await client.query("SELECT n FROM own WHERE id = $1", [1]);
    assert.equal(rows[0].n, n);
  }
});

test("named statements", async () => {
  const twice = { name: "twice", text: "SELECT $1::int * 2 AS n" };
  for (const n of numbers(1, 20)) {
    assert.equal((await client.query({ ...twice, values: [n] })).rows[0].n, 2 * n);
  }
  for (const n of numbers(1, 150)) {
    const { rows } = await client.query({ name: `s${n}`, text: `SELECT ${n} + $1::int AS n`, values: [1] });
    assert.equal(rows[0].n, n + 1);
  }
  const failing = { name: "failing", text: "SELECT * FROM nowhere WHERE id = $1", values: [1] };
  for (const _ of numbers(1, 3)) {
    await assert.rejects(client.query(failing), { code: "42P01" });
  }
  assert.equal((await client.query({ ...twice, values: [4] })).rows[0].n, 8);
});

test("transactions and savepoints", async () => {
  await client.query("CREATE TABLE booked (n int)");
  await client.query("BEGIN");
  await client.query("INSERT INTO booked VALUES ($1)", [1]);
  await client.query("SAVEPOINT here");
  await assert.rejects(client.query("SELECT 1/0"), { code: "22012" });
  await assert.rejects(client.query("SELECT 1"), { code: "25P02" });
  await client.query("ROLLBACK TO here");
  await client.query("COMMIT");
  await client.query("BEGIN");
  await client.query("INSERT INTO booked VALUES (2)");
  await client.query("ROLLBACK");
  assert.deepEqual((await client.query("TABLE booked")).rows, [{ n: 1 }]);
});

test("queries queued without waiting", async () => {
  const results = await Promise.all(
    numbers(1, 50).map((n) => client.query("SELECT $1::int AS n", [n])),
  );
  assert.deepEqual(results.map((result) => result.rows[0].n), numbers(1, 50));
});

test("several statements in one string", async () => {
  const results = await client.query("SELECT 1 AS a; SELECT 2 AS b, 3 AS c; SELECT 4 AS d");
  assert.deepEqual(results.map((result) => result.rows[0]), [{ a: 1 }, { b: 2, c: 3 }, { d: 4 }]);
});

test("errors carry every field", async () => {
  await client.query("CREATE TABLE names (name text CONSTRAINT only_one UNIQUE)");
  await client.query("INSERT INTO names VALUES ('a')");
  await assert.rejects(client.query("INSERT INTO names VALUES ($1)", ["a"]), {
    code: "23505",
    constraint: "only_one",
    table: "names",
    detail: "Key (name)=(a) already exists.",
  });
  await assert.rejects(client.query("SELECT nothing FROM names"), { code: "42703", position: "8" });
});

test("cursors", async () => {
  const cursor = client.query(new Cursor("SELECT n FROM generate_series(1, $1::int) n", [250]));
  const seen = [];
  for (let rows = await cursor.read(40); rows.length; rows = await cursor.read(40)) {
    seen.push(...rows.map((row) => row.n));
  }
  assert.deepEqual(seen, numbers(1, 250));
  await cursor.close();
  const abandoned = client.query(new Cursor("SELECT n FROM generate_series(1, 100000) n"));
  assert.equal((await abandoned.read(5)).length, 5);
  await abandoned.close();
  assert.equal((await client.query("SELECT 1 AS n")).rows[0].n, 1);
});

test("query streams", async () => {
  const stream = client.query(
    new QueryStream("SELECT n, repeat('x', 500) AS x FROM generate_series(1, 20000) n", [], {
      batchSize: 300,
    }),
  );
  let count = 0;
  for await (const row of stream) {
    count += row.x.length / 500;
  }
  assert.equal(count, 20000);
});

test("notices and notifications", async () => {
  const notices = [];
  client.on("notice", (notice) => notices.push(notice.message));
  await client.query("DO $$ BEGIN RAISE NOTICE 'heard %', 1; END $$");
  assert.deepEqual(notices, ["heard 1"]);
  const listener = new pg.Client();
  await listener.connect();
  const heard = new Promise((resolve) => listener.once("notification", resolve));
  await listener.query("LISTEN news");
  await client.query("SELECT pg_notify($1, $2)", ["news", "hello"]);
  assert.equal((await heard).payload, "hello");
  await listener.end();
});

test("a statement_timeout given at connection", async () => {
  const hasty = new pg.Client({ statement_timeout: 100, application_name: "hasty" });
  await hasty.connect();
  for (const _ of [1, 2]) {
    await assert.rejects(hasty.query("SELECT pg_sleep(20)"), { code: "57014" });
    const { rows } = await hasty.query("SHOW application_name");
    assert.equal(rows[0].application_name, "hasty");
  }
  await hasty.end();
});

test("a pool under load", async () => {
  await client.query("CREATE TABLE counted (id int PRIMARY KEY, n int)");
  await client.query("INSERT INTO counted SELECT n, 0 FROM generate_series(0, 9) n");
  const pool = new pg.Pool({ max: 15 });
  await Promise.all(
    numbers(1, 200).map(async (number) => {
      const one = await pool.connect();
      try {
        await one.query("BEGIN");
        await one.query("UPDATE counted SET n = n + 1 WHERE id = $1", [number % 10]);
        const { rows } = await one.query("SELECT n FROM counted WHERE id = $1", [number % 10]);
        assert.ok(rows[0].n >= 1);
        await one.query("COMMIT");
      } finally {
        one.release();
      }
    }),
  );
  await pool.end();
  await client.query("BEGIN");
  const { rows } = await client.query("SELECT sum(n)::int AS n FROM counted");
  await client.query("COMMIT");
  assert.equal(rows[0].n, 200);
});

test("a large result and a large value", async () => {
  const { rows } = await client.query("SELECT n, md5(n::text) FROM generate_series(1, 100000) n");
  assert.equal(rows.length, 100000);
  const large = "y".repeat(5_000_000);
  assert.equal((await client.query("SELECT $1::text AS t", [large])).rows[0].t, large);
});
