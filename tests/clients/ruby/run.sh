#!/usr/bin/env bash
# Ruby's pg. Environment: PGHOST, PGPORT, PGUSER, PGDATABASE.
set -eu
ruby program.rb
