#!/usr/bin/env bash
# A dbt project from seed to documentation, twice where a second run takes another path (incremental, snapshot).
set -euo pipefail
export DBT_PROFILES_DIR=$PWD DBT_SEND_ANONYMOUS_USAGE_STATS=false DO_NOT_TRACK=1
dbt() { "$CLIENT_ENV/bin/dbt" --no-use-colors "$@"; }
dbt debug
dbt seed
dbt run
dbt run
dbt test
dbt snapshot
sed -i 's/^2,Bob,PT/2,Bob,NO/' seeds/customers.csv
dbt seed --full-refresh
dbt snapshot
dbt docs generate
count() { psql -X -At -c "$1"; }
[ "$(count 'select count(*) from shop.order_log')" = 4 ]
[ "$(count 'select count(*) from shop.customers_snapshot')" = 4 ]
[ "$(count 'select sum(total) from shop.customer_totals')" = 43.50 ]
[ "$(count "select obj_description('shop.customer_totals'::regclass, 'pg_class')")" = 'What each customer spent.' ]
grep -q customer_totals target/catalog.json
