CREATE FUNCTION file_name(path text)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'file_name';

COMMENT ON FUNCTION file_name IS 'The last part of a path or URI, without query and fragment of an http URI; empty when it ends in a slash.';

/* example
query T
SELECT file_name('s3://bucket/a/x.tar.gz')
----
x.tar.gz
*/

/* example
query T
SELECT file_name('https://host/p/x.jpg?sig=1')
----
x.jpg
*/
