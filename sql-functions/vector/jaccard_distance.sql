CREATE FUNCTION jaccard_distance(a bit, b bit)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'jaccard_distance';

COMMENT ON FUNCTION jaccard_distance IS '1 minus the set bits in common over the set bits of either; 1 when nothing is in common; the operator <%>. Errors: 22023 when the strings have different lengths.';

/* example
query R
SELECT jaccard_distance(binary_quantize('[1,1,1,-1,0,0,0,0]'::vector), binary_quantize('[-1,1,1,1,0,0,0,0]'::vector))
----
0.5
*/
