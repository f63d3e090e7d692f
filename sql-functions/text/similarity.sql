CREATE FUNCTION similarity(a text, b text)
RETURNS real LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'similarity';

COMMENT ON FUNCTION similarity IS 'How alike two texts are, from 0 to 1: the share of their trigrams that they have in common, as in pg_trgm.';

/* example
query R
SELECT round(similarity('word', 'two words')::numeric, 4)
----
0.3636
*/

/* example
query R
SELECT similarity('Same', 'same')
----
1
*/
