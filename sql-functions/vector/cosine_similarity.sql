CREATE FUNCTION cosine_similarity(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'cosine_similarity';

COMMENT ON FUNCTION cosine_similarity IS 'The cosine of the angle between two vectors, from -1 to 1; NaN when one has no length. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT cosine_similarity('[1,1]'::vector, '[-1,-1]'::vector)
----
-1
*/
