CREATE FUNCTION file_info(source file, on_error text DEFAULT NULL)
RETURNS jsonb LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_info';

CREATE FUNCTION file_info(source text, on_error text DEFAULT NULL)
RETURNS jsonb LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_info';

COMMENT ON FUNCTION file_info IS 'What is known of a file without reading it: uri, name, size in bytes, etag, last_modified, content_type.
Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed.';

/* example
statement error (58P01)
SELECT file_info('/no/such/file', on_error => 'raise')
*/
