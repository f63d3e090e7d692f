<?php
// What a PHP program does with its two drivers: parameters, metadata, helpers that write SQL by themselves, COPY, transactions.
function same($what, $got, $wanted) {
    if ($got !== $wanted) {
        fwrite(STDERR, "$what: " . var_export($got, true) . ' instead of ' . var_export($wanted, true) . "\n");
        exit(1);
    }
}

$c = pg_connect('');
pg_query($c, 'SET client_min_messages = warning');
pg_query($c, 'DROP TABLE IF EXISTS php_items');
pg_query($c, 'CREATE TABLE php_items (id serial PRIMARY KEY, name text, sold boolean, facts jsonb)');
$r = pg_query_params($c, 'INSERT INTO php_items (name, sold, facts) VALUES ($1, $2, $3) RETURNING id', ["it's", 't', '{"k": 1}']);
same('RETURNING', pg_fetch_result($r, 0, 0), '1');
same('pg_meta_data', array_keys(pg_meta_data($c, 'php_items')), ['id', 'name', 'sold', 'facts']);
same('pg_insert', pg_insert($c, 'php_items', ['name' => 'q', 'sold' => true]) !== false, true);
same('pg_select', count(pg_select($c, 'php_items', ['name' => 'q'])), 1);
same('pg_copy_from', pg_copy_from($c, 'php_items', ["7\tz\tt\t{}\n"]), true);
same('pg_copy_to', count(pg_copy_to($c, 'php_items')), 3);
$r = pg_query($c, 'SELECT * FROM php_items ORDER BY id');
same('pg_field_type', array_map(fn($i) => pg_field_type($r, $i), range(0, 3)), ['int4', 'text', 'bool', 'jsonb']);
same('pg_field_table', pg_field_table($r, 0), 'php_items');
@pg_query($c, 'SELECT 1/0');
same('error', trim(pg_last_error($c)), 'ERROR:  division by zero');

$p = new PDO('pgsql:', getenv('PGUSER'), getenv('PGPASSWORD') ?: '', [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
$s = $p->prepare('SELECT id, name FROM php_items WHERE id > :least ORDER BY id');
$s->execute(['least' => 1]);
same('PDO', $s->fetchAll(PDO::FETCH_ASSOC), [['id' => 2, 'name' => 'q'], ['id' => 7, 'name' => 'z']]);
same('getColumnMeta', $s->getColumnMeta(0)['native_type'], 'int4');
$p->beginTransaction();
$p->exec("INSERT INTO php_items (id, name) VALUES (8, 'r')");
$p->rollBack();
same('rollBack', (int) $p->query('SELECT count(*) FROM php_items')->fetchColumn(), 3);
try {
    $p->exec("INSERT INTO php_items (id) VALUES (7)");
    same('unique', false, true);
} catch (PDOException $e) {
    same('unique', $e->getCode(), '23505');
}
pg_query($c, 'DROP TABLE php_items');
echo "ok\n";
