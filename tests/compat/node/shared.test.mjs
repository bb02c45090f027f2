// Many clients on two server connections per node: what is whose stays whose.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import pg from "pg";
import postgres from "postgres";

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const CLIENTS = 10;
const clients = numbers(1, CLIENTS).map(() => new pg.Client());

before(() => Promise.all(clients.map((client) => client.connect())));
after(() => Promise.all(clients.map((client) => client.end())));

test("one name, a statement for each client", async () => {
  await Promise.all(
    clients.map(async (client, number) => {
      for (const n of numbers(1, 25)) {
        const { rows } = await client.query({
          name: "the same",
          text: `SELECT ${number} AS mine, $1::int AS n`,
          values: [n],
        });
        assert.deepEqual(rows, [{ mine: number, n }]);
      }
    }),
  );
});

test("statements outlive DEALLOCATE ALL and DISCARD ALL of another client", async () => {
  const [dropping, ...others] = clients;
  const query = { name: "kept", text: "SELECT $1::int + 1 AS n" };
  for (const command of ["DEALLOCATE ALL", "DISCARD ALL"]) {
    for (const _ of [1, 2]) {
      const found = await Promise.all(others.map((one) => one.query({ ...query, values: [1] })));
      assert.ok(found.every((result) => result.rows[0].n === 2));
      await dropping.query(command);
    }
  }
  await dropping.query({ text: "SELECT $1::int AS n", values: [1] });
  const gone = { name: "the same", text: "SELECT 0 AS mine, $1::int AS n", values: [1] };
  await assert.rejects(dropping.query(gone), { code: "26000" }); // as on a connection of its own
});

test("a statement whose result changes its shape: the new rows, or the error", async () => {
  const [owner] = clients;
  await owner.query("CREATE TABLE shape (id int, n int)");
  await owner.query("INSERT INTO shape VALUES (1, 10)");
  const query = { name: "shaped", text: "SELECT * FROM shape WHERE id = $1", values: [1] };
  const inTransaction = async (client) => {
    await client.query("BEGIN"); // on the primary, which has the table for certain
    try {
      return (await client.query(query)).rows[0];
    } finally {
      await client.query("ROLLBACK");
    }
  };
  for (const client of clients) {
    assert.deepEqual(await inTransaction(client), { id: 1, n: 10 });
  }
  await owner.query("ALTER TABLE shape ALTER n TYPE text USING 'ten', ADD COLUMN more int DEFAULT 5");
  for (const client of [...clients, ...clients]) {
    try {
      assert.deepEqual(await inTransaction(client), { id: 1, n: "ten", more: 5 });
    } catch (error) {
      assert.equal(error.code, "0A000"); // cached plan must not change result type
    }
  }
});

test("settings stay with their pool", async () => {
  const options = {
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    user: process.env.PGUSER,
    password: process.env.PGPASSWORD,
    database: process.env.PGDATABASE,
    max: 4,
  };
  const pools = ["UTC", "Japan", "Cuba"].map((zone) =>
    postgres({ ...options, connection: { TimeZone: zone, application_name: zone } }),
  );
  await Promise.all(
    pools.flatMap((sql, index) =>
      numbers(1, 30).map(async () => {
        const [row] = await sql`
          SELECT current_setting('TimeZone') AS zone, current_setting('application_name') AS name`;
        const zone = ["UTC", "Japan", "Cuba"][index];
        assert.deepEqual({ ...row }, { zone, name: zone });
      }),
    ),
  );
  await Promise.all(pools.map((sql) => sql.end()));
});
