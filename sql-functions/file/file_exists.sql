CREATE FUNCTION file_exists(source file, on_error text DEFAULT NULL)
RETURNS boolean LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_exists';

CREATE FUNCTION file_exists(source text, on_error text DEFAULT NULL)
RETURNS boolean LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_exists';

COMMENT ON FUNCTION file_exists IS 'Whether a file is there. Errors: 42501 not allowed, 58030 the request failed.';

/* example
query B
SELECT file_exists('/no/such/file')
----
f
*/
