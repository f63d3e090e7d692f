CREATE FUNCTION pg_sleep(seconds double precision) RETURNS text LANGUAGE squilla VOLATILE STRICT AS 'pg_sleep';

COMMENT ON FUNCTION pg_sleep IS 'Waits for this many seconds, for each row; gives an empty text. Cancelling the statement ends the wait.';

/* example
query B
SELECT pg_sleep(0.01) = ''
----
t
*/
