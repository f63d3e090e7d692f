CREATE FUNCTION minhash_bands(signature bigint[], bands integer)
RETURNS SETOF bigint LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'minhash_bands';

COMMENT ON FUNCTION minhash_bands IS 'One hash per band of a MinHash signature. Texts with a band in common are candidates for near duplicates: join on it.
Errors: 22023 unless bands divides the length of the signature.';

/* example
query I
SELECT count(*) FROM minhash_bands(minhash('some text', num_hashes => 16), 4)
----
4
*/

/* example
query B
SELECT min(a) = min(b) FROM minhash_bands(minhash('same text'), 16) a, minhash_bands(minhash('SAME text'), 16) b
----
t
*/
