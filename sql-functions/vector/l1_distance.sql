CREATE FUNCTION l1_distance(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'l1_distance';

COMMENT ON FUNCTION l1_distance IS 'The taxicab distance of two vectors, the sum of the absolute differences; the operator <+>. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT l1_distance('[0,0]'::vector, '[3,4]'::vector)
----
7
*/
