-- What became of the broken files: the statements went on without them.

\echo
\echo '== Broken files of the four statements'
SELECT regexp_replace(uri, '.*/', '') AS file, function, sqlstate, left(message, 60) AS reason
FROM squilla.row_errors
ORDER BY uri, function
LIMIT 20;
