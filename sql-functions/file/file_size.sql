CREATE FUNCTION file_size(source file, on_error text DEFAULT NULL)
RETURNS bigint LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_size';

CREATE FUNCTION file_size(source text, on_error text DEFAULT NULL)
RETURNS bigint LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_size';

COMMENT ON FUNCTION file_size IS 'The size of a file in bytes. Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed.';

/* example
statement error (58P01)
SELECT file_size('/no/such/file', on_error => 'raise')
*/
