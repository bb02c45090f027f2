# DBD::Pg: ten clients on two server connections per node.
use strict;
use warnings;
use DBI;
use Test::More;

my @clients = map {
    DBI->connect("dbi:Pg:", undef, undef, {RaiseError => 1, PrintError => 0, AutoCommit => 1})
} 1 .. 10;

my @statements = map { $clients[$_]->prepare("SELECT $_, ?::int * 2") } 0 .. $#clients;
for my $turn (1 .. 20) {
    for my $number (0 .. $#clients) {
        $statements[$number]->execute($turn);
        is_deeply($statements[$number]->fetchrow_arrayref, [$number, $turn * 2], "$number, $turn");
        $statements[$number]->finish;
    }
}

for my $command ("DEALLOCATE ALL", "DISCARD ALL") {
    $clients[0]->do($command);
    for my $number (1 .. $#clients) {
        $statements[$number]->execute(3);
        is($statements[$number]->fetchall_arrayref->[0][1], 6, "$number after $command");
    }
    ok(!eval { $statements[0]->execute(3); 1 }, "dropped by $command");
    is($clients[0]->state, "26000", "as on a connection of its own");
    $statements[0] = $clients[0]->prepare("SELECT 0, ?::int * 2");
    for my $turn (1 .. 4) { # from the second on by a name on the server
        $statements[0]->execute($turn);
        is($statements[0]->fetchall_arrayref->[0][1], 2 * $turn, "prepared again, $turn");
    }
}

$clients[0]->do("CREATE TABLE shape (id int, n int)");
$clients[0]->do("INSERT INTO shape VALUES (1, 10)");
my @shaped = map { $_->prepare("SELECT * FROM shape WHERE id = ?") } @clients;

# In a transaction, which runs on the primary: it has the table for certain.
sub shape_of {
    my ($number) = @_;
    $clients[$number]->begin_work;
    my $row = eval { $shaped[$number]->execute(1); $shaped[$number]->fetchall_arrayref->[0] };
    my $state = $clients[$number]->state;
    $clients[$number]->rollback;
    return $row || $state;
}

is_deeply(shape_of($_), [1, 10], "shape for $_") for 0 .. $#clients;
is_deeply(shape_of($_), [1, 10], "shape for $_ again") for 0 .. $#clients;
$clients[0]->do("ALTER TABLE shape ALTER n TYPE text USING 'ten', ADD COLUMN more int DEFAULT 5");
for my $number (0 .. $#clients) {
    my $found = shape_of($number);
    ref $found
        ? is_deeply($found, [1, "ten", 5], "new shape for $number")
        : is($found, "0A000", "cached plan must not change result type for $number");
}

$_->disconnect for @clients;
done_testing;
