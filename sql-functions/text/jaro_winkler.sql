CREATE FUNCTION jaro_winkler(a text, b text)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'jaro_winkler';

COMMENT ON FUNCTION jaro_winkler IS 'How alike two names are, from 0 to 1, by Jaro and Winkler: characters in common near the same place, a bonus for an equal head.';

/* example
query R
SELECT round(jaro_winkler('MARTHA', 'MARHTA')::numeric, 4)
----
0.9611
*/

/* example
query R
SELECT jaro_winkler('same', 'same')
----
1
*/
