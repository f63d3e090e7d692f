CREATE FUNCTION minhash_similarity(a bigint[], b bigint[])
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'minhash_similarity';

COMMENT ON FUNCTION minhash_similarity IS 'The share of equal numbers of two MinHash signatures, from 0 to 1: an estimate of the Jaccard similarity of the texts.
Errors: 22023 when the signatures have different lengths.';

/* example
query R
SELECT minhash_similarity(minhash('same text'), minhash('same  text'))
----
1
*/

/* example
statement error (22023)
SELECT minhash_similarity(minhash('a'), minhash('a', num_hashes => 8))
*/
