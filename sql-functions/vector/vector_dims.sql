CREATE FUNCTION vector_dims(v vector)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'vector_dims';

COMMENT ON FUNCTION vector_dims IS 'The number of dimensions of a vector.';

/* example
query I
SELECT vector_dims('[1,2,3]'::vector)
----
3
*/
