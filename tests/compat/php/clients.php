<?php
// PDO_pgsql and pgsql at their defaults.

function check(mixed $found, mixed $expected, string $what): void
{
    if ($found !== $expected) {
        throw new RuntimeException("$what: " . json_encode($found) . ", not " . json_encode($expected));
    }
    echo "ok $what\n";
}

function sqlstate_of(callable $work): string
{
    try {
        $work();
    } catch (PDOException $error) {
        return $error->errorInfo[0];
    }
    return "none";
}

function pdo(array $options = []): PDO
{
    return new PDO("pgsql:", getenv("PGUSER"), getenv("PGPASSWORD"), $options);
}

$pdo = pdo();

$select = $pdo->prepare("SELECT ?::int + 1, ?::text, ?::bool");
foreach (range(1, 20) as $n) {
    $select->execute([$n, "ü$n", "t"]);
    check($select->fetch(PDO::FETCH_NUM), [$n + 1, "ü$n", true], "prepared $n");
}
foreach (range(1, 120) as $n) {
    $one = $pdo->prepare("SELECT $n + :n::int");
    $one->execute(["n" => 1]);
    if ($one->fetchColumn() !== $n + 1) {
        throw new RuntimeException("statement $n");
    }
}

$pdo->exec("CREATE TABLE own (id serial PRIMARY KEY, n int)");
$pdo->exec("INSERT INTO own (n) VALUES (0)");
check($pdo->lastInsertId(), "1", "lastInsertId");
$write = $pdo->prepare("UPDATE own SET n = :n WHERE id = 1");
$read = $pdo->prepare("SELECT n FROM own WHERE id = :id");
foreach (range(1, 60) as $n) {
    $write->execute(["n" => $n]);
    $read->execute(["id" => 1]);
    if ($read->fetchColumn() !== $n) {
        throw new RuntimeException("turn $n did not see its own write");
    }
}

$pdo->beginTransaction();
$pdo->exec("INSERT INTO own (n) VALUES (100)");
check($pdo->inTransaction(), true, "inTransaction");
$pdo->rollBack();
$pdo->beginTransaction();
check(sqlstate_of(fn () => $pdo->exec("INSERT INTO own VALUES (1, 1)")), "23505", "unique");
check(sqlstate_of(fn () => $pdo->query("SELECT 1")), "25P02", "aborted");
$pdo->rollBack();
check($pdo->query("SELECT count(*) FROM own")->fetchColumn(), 1, "rolled back");
check(sqlstate_of(fn () => $pdo->query("SELECT * FROM nowhere")), "42P01", "no such table");

$emulated = pdo([PDO::ATTR_EMULATE_PREPARES => true]);
$statement = $emulated->prepare("SELECT ?::text || ?");
$statement->execute(["it's", "\\"]);
check($statement->fetchColumn(), "it's\\", "emulated prepares");

$pdo->beginTransaction();
$cursor = $pdo->prepare(
    "SELECT n FROM generate_series(1, 50) n",
    [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]
);
$cursor->execute();
check($cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 40), [40], "scrollable cursor");
unset($cursor);
$pdo->commit();

$pdo->exec("CREATE TABLE copied (id int, name text)");
$rows = array_map(fn ($n) => "$n\tname $n", range(1, 500));
check($pdo->pgsqlCopyFromArray("copied", $rows), true, "copy in");
check(count($pdo->pgsqlCopyToArray("copied")), 500, "copy out");

$pdo->beginTransaction();
$oid = $pdo->pgsqlLOBCreate();
$stream = $pdo->pgsqlLOBOpen($oid, "w");
fwrite($stream, str_repeat("x", 10000));
$stream = null;
$stream = $pdo->pgsqlLOBOpen($oid, "r");
check(strlen(stream_get_contents($stream)), 10000, "large object");
$stream = null;
$pdo->commit();

$pdo->exec("LISTEN news");
$other = pdo();
$other->exec("NOTIFY news, 'hello'");
check($pdo->pgsqlGetNotify(PDO::FETCH_NUM, 10000)[2], "hello", "notification");

$pg = pg_connect("");
foreach (range(1, 10) as $n) {
    $row = pg_fetch_row(pg_query_params($pg, "SELECT $1::int * 2", [$n]));
    check($row, [(string) ($n * 2)], "pg_query_params $n");
}
pg_prepare($pg, "named", "SELECT $1::text");
check(pg_fetch_result(pg_execute($pg, "named", ["x"]), 0, 0), "x", "pg_execute");
pg_send_query($pg, "SELECT 1; SELECT 2");
$found = [];
while ($result = pg_get_result($pg)) {
    $found[] = pg_fetch_result($result, 0, 0);
}
check($found, ["1", "2"], "pg_send_query");
check(pg_insert($pg, "own", ["n" => 7]) !== false, true, "pg_insert reads the table's columns");
check(pg_select($pg, "own", ["n" => 7])[0]["n"], "7", "pg_select");
pg_send_query($pg, "SELECT pg_sleep(20)");
check(pg_cancel_query($pg), true, "pg_cancel_query");
check(pg_fetch_result(pg_query($pg, "SELECT 9"), 0, 0), "9", "usable after it");
check(pg_parameter_status($pg, "server_encoding"), "UTF8", "pg_parameter_status");

$crowd = array_map(fn () => pdo(), range(1, 15));
$prepared = [];
foreach ($crowd as $number => $client) {
    $prepared[$number] = $client->prepare("SELECT $number, ?::int");
}
foreach (range(1, 5) as $turn) {
    foreach ($prepared as $number => $statement) {
        $statement->execute([$turn]);
        if ($statement->fetch(PDO::FETCH_NUM) !== [$number, $turn]) {
            throw new RuntimeException("client $number got another's row");
        }
    }
    $crowd[$turn]->exec("DISCARD ALL");
    $prepared[$turn] = $crowd[$turn]->prepare("SELECT $turn, ?::int");
}
echo "done\n";
