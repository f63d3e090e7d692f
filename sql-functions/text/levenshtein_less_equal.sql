CREATE FUNCTION levenshtein_less_equal(source text, target text, max_d integer)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'levenshtein_less_equal';

COMMENT ON FUNCTION levenshtein_less_equal IS 'The number of edits that turn one text into the other where it is at most max_d, else some number above max_d.
Errors: 22023 for a text of more than 255 characters.';

/* example
query I
SELECT levenshtein_less_equal('extensive', 'exhaustive', 2)
----
3
*/

/* example
query I
SELECT levenshtein_less_equal('extensive', 'exhaustive', 4)
----
4
*/
