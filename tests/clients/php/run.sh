#!/usr/bin/env bash
# PHP's pgsql and PDO. Environment: PGHOST, PGPORT, PGUSER, PGDATABASE.
set -eu
php program.php
