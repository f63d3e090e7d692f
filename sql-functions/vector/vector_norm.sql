CREATE FUNCTION vector_norm(v vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'vector_norm';

COMMENT ON FUNCTION vector_norm IS 'The Euclidean length of a vector.';

/* example
query R
SELECT vector_norm('[3,4]'::vector)
----
5
*/
