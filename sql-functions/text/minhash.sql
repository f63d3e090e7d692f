CREATE FUNCTION minhash(text text, num_hashes integer DEFAULT 128, ngram integer DEFAULT 5, seed integer DEFAULT 1)
RETURNS bigint[] LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'minhash';

COMMENT ON FUNCTION minhash IS 'The MinHash signature of a text: num_hashes numbers, each the least hash of its character n-grams under one hash function.
Case and the amount of white space do not count. Near-duplicate texts share most of the numbers, whatever machine made them.
Errors: 22023 unless num_hashes is between 1 and 4096 and ngram is at least 1.';

/* example
query B
SELECT minhash('Hello  World') = minhash('hello world')
----
t
*/

/* example
query I
SELECT cardinality(minhash('some text', num_hashes => 16))
----
16
*/

/* example
statement error (22023)
SELECT minhash('x', num_hashes => 0)
*/
