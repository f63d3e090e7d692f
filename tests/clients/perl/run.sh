#!/usr/bin/env bash
# DBD::Pg: statements, metadata, savepoints, COPY. Environment: PGHOST, PGPORT, PGUSER, PGDATABASE.
set -eu
perl program.pl
