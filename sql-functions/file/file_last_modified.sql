CREATE FUNCTION file_last_modified(source file, on_error text DEFAULT NULL)
RETURNS timestamptz LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_last_modified';

CREATE FUNCTION file_last_modified(source text, on_error text DEFAULT NULL)
RETURNS timestamptz LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_last_modified';

COMMENT ON FUNCTION file_last_modified IS 'When a file was last changed. Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed.';

/* example
statement error (58P01)
SELECT file_last_modified('/no/such/file', on_error => 'raise')
*/
