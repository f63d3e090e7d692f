CREATE FUNCTION cosine_distance(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'cosine_distance';

COMMENT ON FUNCTION cosine_distance IS '1 minus the cosine of the angle between two vectors: 0 for the same direction, 2 for the opposite, NaN when one has no length; the operator <=>. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT cosine_distance('[1,0]'::vector, '[0,2]'::vector)
----
1
*/

/* example
query R
SELECT cosine_distance('[3,4]'::vector, '[6,8]'::vector)
----
0
*/
