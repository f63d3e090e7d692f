CREATE FUNCTION file_text(source file, encoding text DEFAULT 'utf8', on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_text';

CREATE FUNCTION file_text(source text, encoding text DEFAULT 'utf8', on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_text';

COMMENT ON FUNCTION file_text IS 'The text of a file. encoding: a name such as utf8, latin1, utf-16le, windows-1252, sjis; a byte order mark wins over it.
Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed, 54000 above squilla.max_file_bytes, 22021 bytes that are not in the encoding, 22023 an unknown encoding.';

/* example
statement error (58P01)
SELECT file_text('/no/such/file', on_error => 'raise')
*/

/* example
statement error (22023)
SELECT file_text('/no/such/file', encoding => 'klingon')
*/
