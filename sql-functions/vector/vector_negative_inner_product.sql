CREATE FUNCTION vector_negative_inner_product(a vector, b vector)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'vector_negative_inner_product';

COMMENT ON FUNCTION vector_negative_inner_product IS 'Minus the inner product, so that ascending order puts the most similar first; the operator <#>. Errors: 22023 when the vectors have different dimensions.';

/* example
query R
SELECT vector_negative_inner_product('[1,2]'::vector, '[3,4]'::vector)
----
-11
*/
