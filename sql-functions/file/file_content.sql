CREATE FUNCTION file_content(source file, "offset" bigint DEFAULT 0, length bigint DEFAULT NULL, max_bytes bigint DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_content';

CREATE FUNCTION file_content(source text, "offset" bigint DEFAULT 0, length bigint DEFAULT NULL, max_bytes bigint DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_content';

COMMENT ON FUNCTION file_content IS 'The bytes of a file, or of length bytes of it from offset on. max_bytes: fail above so many, at most squilla.max_file_bytes.
Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed, 54000 above max_bytes, SQ006 the file is no longer the one that was listed.';

/* example
statement error (58P01)
SELECT file_content('/no/such/file', on_error => 'raise')
*/

/* example
query T
SELECT file_content('/no/such/file', on_error => 'null')
----
NULL
*/
