CREATE FUNCTION file_etag(source file, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_etag';

CREATE FUNCTION file_etag(source text, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_etag';

COMMENT ON FUNCTION file_etag IS 'The version tag of a file; NULL where its source gives none. Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed.';

/* example
statement error (58P01)
SELECT file_etag('/no/such/file', on_error => 'raise')
*/
