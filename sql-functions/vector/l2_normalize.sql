CREATE FUNCTION l2_normalize(v vector)
RETURNS vector LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'l2_normalize';

COMMENT ON FUNCTION l2_normalize IS 'The vector scaled to length 1; the zero vector stays as it is.';

/* example
query T
SELECT l2_normalize('[3,4]'::vector)
----
[0.6,0.8]
*/
