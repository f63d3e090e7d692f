CREATE FUNCTION soundex(source text)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'soundex';

COMMENT ON FUNCTION soundex IS 'How an English name sounds: one letter and three digits, as in fuzzystrmatch.';

/* example
query TT
SELECT soundex('Anne'), soundex('Andrew')
----
A500 A536
*/
