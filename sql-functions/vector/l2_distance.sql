CREATE FUNCTION l2_distance(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'l2_distance';

COMMENT ON FUNCTION l2_distance IS 'The Euclidean distance of two vectors; the operator <->. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT l2_distance('[0,0]'::vector, '[3,4]'::vector)
----
5
*/

/* example
query R
SELECT '[1,2,3]'::vector <-> '[1,2,4]'::vector
----
1
*/

/* example
statement error (22023)
SELECT l2_distance('[1,2,3]'::vector, '[1,2,3,4]'::vector)
*/
