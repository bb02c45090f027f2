// postgres (porsager's) at its defaults: named statements, pipelined queries, types fetched at start.
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import postgres from "postgres";

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const options = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};
const notices = [];
const sql = postgres({ ...options, onnotice: (notice) => notices.push(notice.message) });
const single = postgres({ ...options, max: 1, onnotice: (notice) => notices.push(notice.message) });
after(async () => {
  await sql.end();
  await single.end();
});

test("values and fragments", async () => {
  const rows = await sql`SELECT ${1}::int AS i, ${"ü"} AS t, ${[1, 2]}::int[] AS a, ${sql.json({ k: 1 })} AS j`;
  assert.deepEqual([...rows], [{ i: 1, t: "ü", a: [1, 2], j: { k: 1 } }]);
  const where = sql`WHERE n > ${8}`;
  assert.deepEqual(
    (await sql`SELECT n FROM generate_series(1, 10) n ${where}`).map((row) => row.n),
    [9, 10],
  );
});

test("one connection reads its own writes", async () => {
  await single`CREATE TABLE mine (id int PRIMARY KEY, n int)`;
  await single`INSERT INTO mine ${single([{ id: 1, n: 0 }, { id: 2, n: 0 }])}`;
  for (const n of numbers(1, 60)) {
    await single`UPDATE mine SET n = ${n} WHERE id = 1`;
    assert.equal((await single`SELECT n FROM mine WHERE id = 1`)[0].n, n);
  }
});

test("pipelined queries", async () => {
  const found = await Promise.all(numbers(1, 300).map((n) => sql`SELECT ${n}::int * 2 AS n`));
  assert.deepEqual(found.map((rows) => rows[0].n), numbers(1, 300).map((n) => n * 2));
  const mixed = await Promise.allSettled(
    numbers(0, 20).map((n) => single`SELECT 10 / ${n % 5}::int AS n`),
  );
  assert.equal(mixed.filter((one) => one.status === "rejected").length, 5);
  assert.ok(mixed.filter((one) => one.status === "rejected").every((one) => one.reason.code === "22012"));
});

test("transactions and savepoints", async () => {
  await single`CREATE TABLE kept (n int)`;
  await single.begin(async (tx) => {
    await tx`INSERT INTO kept VALUES (1)`;
    await tx
      .savepoint(async (inner) => {
        await inner`INSERT INTO kept VALUES (2)`;
        await inner`SELECT 1/0`;
      })
      .catch((error) => assert.equal(error.code, "22012"));
    await tx`INSERT INTO kept VALUES (3)`;
  });
  await assert.rejects(single.begin((tx) => [tx`INSERT INTO kept VALUES (4)`, tx`SELECT 1/0`]));
  await single.begin("read only", async (tx) => {
    assert.deepEqual((await tx`SELECT n FROM kept ORDER BY n`).map((row) => row.n), [1, 3]);
  });
  await single.begin("isolation level serializable", async (tx) => {
    const [row] = await tx`SHOW transaction_isolation`;
    assert.equal(row.transaction_isolation, "serializable");
  });
});

test("cursors and forEach", async () => {
  const seen = [];
  for await (const rows of sql`SELECT n FROM generate_series(1, 95) n`.cursor(10)) {
    seen.push(...rows.map((row) => row.n));
  }
  assert.deepEqual(seen, numbers(1, 95));
  let sum = 0;
  await sql`SELECT n FROM generate_series(1, 1000) n`.forEach((row) => (sum += row.n));
  assert.equal(sum, 500500);
});

test("COPY both ways", async () => {
  await single`CREATE TABLE copied (id int, name text)`;
  const lines = numbers(1, 2000).map((n) => `${n}\tname ${n}\n`);
  await pipeline(Readable.from(lines), await single`COPY copied FROM STDIN`.writable());
  assert.equal((await single`SELECT count(*)::int AS n FROM copied`)[0].n, 2000);
  let bytes = 0;
  for await (const chunk of await single`COPY copied TO STDOUT`.readable()) {
    bytes += chunk.length;
  }
  assert.equal(bytes, lines.join("").length);
});

test("listen and notify", async () => {
  let hear;
  const heard = new Promise((resolve) => (hear = resolve));
  const { unlisten } = await sql.listen("porsager", hear);
  await sql.notify("porsager", "hello");
  assert.equal(await heard, "hello");
  await unlisten();
});

test("cancel", async () => {
  const query = sql`SELECT pg_sleep(20)`;
  setTimeout(() => query.cancel(), 200);
  await assert.rejects(query, { code: "57014" });
  assert.equal((await sql`SELECT 1 AS n`)[0].n, 1);
});

test("simple protocol, several statements, notices", async () => {
  const results = await sql`SELECT 1 AS a; SELECT 2 AS b`.simple();
  assert.deepEqual(results.map((rows) => rows[0]), [{ a: 1 }, { b: 2 }]);
  await sql.unsafe("DO $$ BEGIN RAISE NOTICE 'heard'; END $$");
  assert.ok(notices.includes("heard"));
});

test("describe, and a reserved connection", async () => {
  const described = await sql`SELECT ${1}::int AS n, 'x' AS t`.describe();
  assert.deepEqual(described.columns.map((column) => column.name), ["n", "t"]);
  const reserved = await sql.reserve();
  await reserved`SET statement_timeout = 4321`;
  assert.equal((await reserved`SHOW statement_timeout`)[0].statement_timeout, "4321ms");
  reserved.release();
});
