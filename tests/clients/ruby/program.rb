# What a Ruby program does: typed parameters and results, COPY, prepared statements, single-row mode, notifications.
require 'pg'

def same(what, got, wanted)
  abort "#{what}: #{got.inspect} instead of #{wanted.inspect}" unless got == wanted
end

c = PG.connect
c.exec('SET client_min_messages = warning')
c.exec('DROP TABLE IF EXISTS ruby_items')
c.exec('CREATE TABLE ruby_items (id int PRIMARY KEY, name text, at timestamptz, price numeric, picture bytea)')
c.exec_params('INSERT INTO ruby_items VALUES ($1, $2, $3, $4, $5)',
              [1, 'x', '2024-01-01 00:00:00+00', '1.5', { value: "\x00\x01".b, format: 1 }])
c.type_map_for_results = PG::BasicTypeMapForResults.new(c)
c.type_map_for_queries = PG::BasicTypeMapForQueries.new(c)
same 'types', c.exec('SELECT id, name, price FROM ruby_items').to_a, [{ 'id' => 1, 'name' => 'x', 'price' => BigDecimal('1.5') }]
c.copy_data('COPY ruby_items (id, name) FROM STDIN') { c.put_copy_data("2\ty\n") }
lines = 0
c.copy_data('COPY ruby_items TO STDOUT') { lines += 1 while c.get_copy_data }
same 'COPY', lines, 2
c.prepare('one', 'SELECT id FROM ruby_items WHERE id = $1')
same 'prepared', c.exec_prepared('one', [2]).values, [[2]]
same 'described', c.describe_prepared('one').ftype(0), 23
c.transaction { |t| t.exec('DELETE FROM ruby_items WHERE id = 2') }
begin
  c.transaction { |t| t.exec('INSERT INTO ruby_items (id) VALUES (1)') }
  abort 'a key twice'
rescue PG::UniqueViolation
  same 'rolled back', c.exec('SELECT count(*) FROM ruby_items').getvalue(0, 0), 1
end
c.send_query('SELECT generate_series(1, 3)')
c.set_single_row_mode
rows = 0
while (result = c.get_result)
  result.check
  rows += result.ntuples
end
same 'single rows', rows, 3
c.exec('LISTEN ruby_channel')
c.exec("NOTIFY ruby_channel, 'hello'")
heard = nil
c.wait_for_notify(5) { |_, _, text| heard = text }
same 'NOTIFY', heard, 'hello'
c.exec('DROP TABLE ruby_items')
puts 'ok'
