CREATE FUNCTION data_uri(data bytea, mime text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'data_uri';

COMMENT ON FUNCTION data_uri IS 'Bytes as a data URI, which dashboards and browsers show. mime: told by the first bytes when it is not given.
Errors: 22023 something that is no MIME type.';

/* example
query T
SELECT data_uri('hi'::bytea)
----
data:text/plain;base64,aGk=
*/
