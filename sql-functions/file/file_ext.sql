CREATE FUNCTION file_ext(path text)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'file_ext';

COMMENT ON FUNCTION file_ext IS 'The suffix of the name of a path or URI without the dot; NULL when there is none.';

/* example
query T
SELECT file_ext('s3://bucket/a/x.tar.gz')
----
gz
*/

/* example
query T
SELECT file_ext('/home/.profile')
----
NULL
*/
