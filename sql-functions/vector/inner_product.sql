CREATE FUNCTION inner_product(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'inner_product';

COMMENT ON FUNCTION inner_product IS 'The inner product of two vectors. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT inner_product('[1,2,3]'::vector, '[4,5,6]'::vector)
----
32
*/
