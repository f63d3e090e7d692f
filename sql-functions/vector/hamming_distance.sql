CREATE FUNCTION hamming_distance(a bit, b bit)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'hamming_distance';

COMMENT ON FUNCTION hamming_distance IS 'The number of bits that differ; the operator <~>. Errors: 22023 when the strings have different lengths.';

/* example
query R
SELECT hamming_distance(binary_quantize('[1,1,1,1,1,1,1,1]'::vector), binary_quantize('[1,1,1,1,1,1,1,-1]'::vector))
----
1
*/
