CREATE FUNCTION file_mime(data bytea, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_mime';

CREATE FUNCTION file_mime(data file, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'file_mime';

COMMENT ON FUNCTION file_mime IS 'The MIME type of a file, told by its first bytes and not by its suffix; of a file only 8 KiB are read. The suffix decides
among text formats that look alike. application/octet-stream when nothing tells. Errors: 58P01 no such file, 42501 not allowed, 58030 the read failed.';

/* example
query T
SELECT file_mime(fixture('document/report.pdf'))
----
application/pdf
*/

/* example
query T
SELECT file_mime('hello'::bytea)
----
text/plain
*/

/* example
statement error (58P01)
SELECT file_mime(file('/no/such/file.pdf'), on_error => 'raise')
*/
