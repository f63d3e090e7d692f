CREATE FUNCTION file(uri text)
RETURNS file LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'file';

COMMENT ON FUNCTION file IS 'A lazy reference to a file or object: a local path, file://, s3://, http:// or https://. Nothing is read.
Errors: 22023 when the URI is empty.';

/* example
query T
SELECT file('s3://bucket/a/x.png')::text
----
s3://bucket/a/x.png
*/

/* example
statement error (22023)
SELECT file('')
*/
