CREATE FUNCTION try(value anyelement) RETURNS anyelement LANGUAGE squilla IMMUTABLE AS 'try';

COMMENT ON FUNCTION try IS 'The value, or NULL where a function of squilla inside it fails on this row. Such failures are not recorded in
squilla.row_errors, and on_error of the functions inside does not count. Errors of the statement itself remain errors.';

/* example
query B
SELECT try(decode_image('\x00'::bytea, on_error => 'raise')) IS NULL
----
t
*/

/* example
query T
SELECT try('as it is')
----
as it is
*/
