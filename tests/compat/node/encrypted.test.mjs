// node-postgres and postgres.js with TLS. AUTHORITY and STRANGER name certificates.
import { readFileSync } from "node:fs";
import test from "node:test";
import assert from "node:assert/strict";
import pg from "pg";
import postgres from "postgres";

const trusted = readFileSync(process.env.AUTHORITY, "utf8");
const stranger = readFileSync(process.env.STRANGER, "utf8");
const where = {
  host: "localhost",
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
};

test("node-postgres", async () => {
  const client = new pg.Client({ ...where, ssl: { ca: trusted } });
  await client.connect();
  for (let number = 0; number < 20; number++) {
    const { rows } = await client.query("SELECT $1::int AS n, repeat('x', 50000) AS t", [number]);
    assert.deepEqual([rows[0].n, rows[0].t.length], [number, 50000]);
  }
  await client.end();
});

test("node-postgres refuses a stranger", async () => {
  const client = new pg.Client({ ...where, ssl: { ca: stranger } });
  await assert.rejects(client.connect());
});

test("node-postgres without TLS is refused", async () => {
  const client = new pg.Client({ ...where, ssl: false });
  await assert.rejects(client.connect(), { code: "28000" });
});

test("postgres.js", async () => {
  const sql = postgres({ ...where, ssl: { ca: trusted }, max: 3 });
  const all = await Promise.all(
    Array.from({ length: 30 }, (_, number) => sql`SELECT ${number}::int AS n`),
  );
  assert.deepEqual(all.map((rows) => rows[0].n), Array.from({ length: 30 }, (_, n) => n));
  await sql.end();
});
