CREATE FUNCTION file_dir(path text)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'file_dir';

COMMENT ON FUNCTION file_dir IS 'What precedes the name in a path or URI, without the slash between them.';

/* example
query T
SELECT file_dir('s3://bucket/a/x.png')
----
s3://bucket/a
*/
