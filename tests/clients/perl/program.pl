# What a program with DBI does: placeholders of several types, errors, savepoints, metadata, COPY both ways.
use strict;
use warnings;
use DBI;
use Test::More;

my $db = DBI->connect('dbi:Pg:', $ENV{PGUSER}, $ENV{PGPASSWORD} // '', {RaiseError => 1, PrintError => 0, AutoCommit => 1});
$db->do("SET client_min_messages = warning");
$db->do('DROP TABLE IF EXISTS perl_items');
$db->do('CREATE TABLE perl_items (id int PRIMARY KEY, name text NOT NULL, price numeric(8,2), picture bytea, at timestamptz, sizes int[])');

my $insert = $db->prepare('INSERT INTO perl_items VALUES (?, ?, ?, ?, ?, ?)');
$insert->bind_param(4, undef, {pg_type => DBD::Pg::PG_BYTEA()});
$insert->execute(1, "it's", '1.50', "\x00\xff", '2024-01-01 10:00:00+00', [1, 2]);
my $row = $db->selectrow_hashref('SELECT * FROM perl_items WHERE id = ?', {}, 1);
is($row->{name}, "it's", 'text');
is($row->{price}, '1.50', 'numeric');
is(unpack('H*', $row->{picture}), '00ff', 'bytea');
is_deeply($row->{sizes}, [1, 2], 'array');

$db->begin_work;
$db->do("INSERT INTO perl_items (id, name) VALUES (2, 'two')");
$db->pg_savepoint('s');
eval { $db->do("INSERT INTO perl_items (id, name) VALUES (2, 'again')") };
is($db->state, '23505', 'unique violation');
$db->pg_rollback_to('s');
$db->commit;

my $columns = $db->column_info(undef, 'public', 'perl_items', undef)->fetchall_arrayref({});
is(join(',', map { "$_->{COLUMN_NAME}:$_->{TYPE_NAME}:$_->{NULLABLE}" } @$columns),
    'id:integer:0,name:text:0,price:numeric:1,picture:bytea:1,at:timestamp with time zone:1,sizes:integer[]:1', 'column_info');
is_deeply([$db->primary_key(undef, 'public', 'perl_items')], ['id'], 'primary_key');
is_deeply([$db->tables(undef, 'public', 'perl_items', 'TABLE')], ['public.perl_items'], 'tables');

$db->do('COPY perl_items (id, name) FROM STDIN');
$db->pg_putcopydata("3\tthree\n");
$db->pg_putcopyend;
$db->do('COPY perl_items (id, name) TO STDOUT');
my ($line, $lines) = ('', 0);
$lines++ while $db->pg_getcopydata(\$line) >= 0;
is($lines, 3, 'COPY both ways');
is($db->do("DELETE FROM perl_items WHERE id > ?", {}, 1), 2, 'rows of DELETE');
ok($db->ping, 'ping');
$db->do('DROP TABLE perl_items');
done_testing;
