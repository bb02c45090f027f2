# DBD::Pg at its defaults: statements prepared on the server, AutoCommit on.
use strict;
use warnings;
use DBI;
use DBD::Pg qw(:pg_types);
use Test::More;

sub connection {
    my (%options) = @_;
    return DBI->connect("dbi:Pg:", undef, undef,
        {RaiseError => 1, PrintError => 0, AutoCommit => 1, %options});
}

my $dbh = connection();

subtest "values and prepared statements" => sub {
    my $sth = $dbh->prepare('SELECT ?::int + 1, ?::text, ?::bytea, ?::int[]');
    for my $n (1 .. 20) {
        $sth->bind_param(3, "\0\xff", {pg_type => PG_BYTEA});
        $sth->execute($n, "w$n", "\0\xff", [$n, undef]);
        is_deeply($sth->fetchrow_arrayref, [$n + 1, "w$n", "\0\xff", [$n, undef]], "row $n");
        $sth->finish;
    }
    for my $n (1 .. 120) {
        is($dbh->selectrow_array("SELECT $n + ?::int", undef, 1), $n + 1, "statement $n");
    }
};

subtest "a session reads its own writes" => sub {
    $dbh->do("CREATE TABLE own (id int PRIMARY KEY, n int)");
    $dbh->do("INSERT INTO own VALUES (?, ?)", undef, 1, 0);
    my $write = $dbh->prepare("UPDATE own SET n = ? WHERE id = 1");
    my $read = $dbh->prepare("SELECT n FROM own WHERE id = ?");
    for my $n (1 .. 60) {
        $write->execute($n);
        $read->execute(1);
        is($read->fetchrow_array, $n, "turn $n");
        $read->finish;
    }
};

subtest "transactions, savepoints and errors" => sub {
    $dbh->do("CREATE TABLE booked (n int PRIMARY KEY)");
    $dbh->begin_work;
    $dbh->do("INSERT INTO booked VALUES (1)");
    $dbh->pg_savepoint("here");
    ok(!eval { $dbh->do("INSERT INTO booked VALUES (1)"); 1 }, "refused");
    is($dbh->state, "23505", "SQLSTATE");
    like($dbh->pg_error_field("constraint"), qr/booked_pkey/, "constraint");
    $dbh->pg_rollback_to("here");
    $dbh->commit;
    $dbh->begin_work;
    $dbh->do("INSERT INTO booked VALUES (2)");
    $dbh->rollback;
    is_deeply($dbh->selectcol_arrayref("SELECT n FROM booked"), [1], "kept and undone");
    my $manual = connection(AutoCommit => 0);
    $manual->do("INSERT INTO booked VALUES (3)");
    $manual->rollback;
    is($manual->selectrow_array("SELECT count(*) FROM booked"), 1, "AutoCommit off");
    $manual->rollback;
    $manual->disconnect;
};

subtest "COPY" => sub {
    $dbh->do("CREATE TABLE copied (id int, name text)");
    $dbh->do("COPY copied FROM STDIN");
    $dbh->pg_putcopydata("$_\tname $_\n") for 1 .. 1000;
    $dbh->pg_putcopyend;
    is($dbh->selectrow_array("SELECT count(*) FROM copied"), 1000, "in");
    $dbh->do("COPY (SELECT * FROM copied ORDER BY id LIMIT 3) TO STDOUT");
    my ($line, @lines) = ("");
    push @lines, $line while $dbh->pg_getcopydata($line) >= 0;
    is_deeply(\@lines, ["1\tname 1\n", "2\tname 2\n", "3\tname 3\n"], "out");
};

subtest "cursors, catalogue, notifications" => sub {
    $dbh->begin_work;
    $dbh->do("DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 30) n");
    is_deeply($dbh->selectcol_arrayref("FETCH 3 FROM c"), [1, 2, 3], "fetch");
    $dbh->commit;
    my $columns = $dbh->column_info(undef, "public", "copied", "%")->fetchall_arrayref({});
    is_deeply([map { $_->{COLUMN_NAME} } @$columns], ["id", "name"], "columns");
    is_deeply([$dbh->primary_key(undef, "public", "own")], ["id"], "primary key");
    ok((grep { /booked/ } $dbh->tables(undef, "public", "%", "TABLE")), "tables");
    $dbh->do("LISTEN news");
    my $other = connection();
    $other->do("NOTIFY news, 'hello'");
    $other->disconnect;
    my $heard;
    for (1 .. 200) {
        last if $heard = $dbh->pg_notifies;
        select(undef, undef, undef, 0.05);
    }
    is($heard->[2], "hello", "payload");
    ok($dbh->ping > 0, "ping");
};

subtest "asynchronous queries and cancel" => sub {
    my $async = connection();
    $async->do("SELECT pg_sleep(20)", {pg_async => PG_ASYNC});
    select(undef, undef, undef, 0.5);  # a request that overtakes the query cancels nothing
    ok($async->pg_cancel, "cancelled");
    is($async->selectrow_array("SELECT 5"), 5, "usable");
    $async->disconnect;
};

subtest "several statements and server-side types" => sub {
    $dbh->do("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE moods (m mood)");
    $dbh->do("INSERT INTO moods VALUES (?)", undef, "ok");
    is($dbh->selectrow_array("SELECT m FROM moods WHERE m = ?", undef, "ok"), "ok", "enum");
};

$dbh->disconnect;
done_testing;
