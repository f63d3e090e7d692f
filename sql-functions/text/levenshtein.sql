CREATE FUNCTION levenshtein(source text, target text, ins_cost integer DEFAULT 1, del_cost integer DEFAULT 1, sub_cost integer DEFAULT 1)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'levenshtein';

COMMENT ON FUNCTION levenshtein IS 'The least cost of the edits that turn one text into the other, as in fuzzystrmatch.
Errors: 22023 for a text of more than 255 characters.';

/* example
query I
SELECT levenshtein('GUMBO', 'GAMBOL')
----
2
*/

/* example
query I
SELECT levenshtein('GUMBO', 'GAMBOL', 2, 1, 1)
----
3
*/
