CREATE FUNCTION binary_quantize(v vector)
RETURNS bit LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'binary_quantize';

COMMENT ON FUNCTION binary_quantize IS 'One bit per value, set where the value is positive; filled with zeros to whole bytes. Compare by hamming_distance.';

/* example
query R
SELECT hamming_distance(binary_quantize('[1,-1,1,-1,1,-1,1,-1]'::vector), binary_quantize('[1,1,1,1,-1,-1,-1,-1]'::vector))
----
4
*/
