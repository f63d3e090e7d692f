CREATE FUNCTION token_count(text text, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'token_count';

COMMENT ON FUNCTION token_count IS 'How many tokens a model makes of a text, its special tokens included, however long the text is.
model: any model with a tokenizer; by default squilla.default_model.embed_text.
Errors: SQ001 unknown model, SQ002 a model without a tokenizer.';

/* example
query I
SELECT token_count('The quick brown fox jumps over the lazy dog.', model => 'sentence-transformers/all-MiniLM-L6-v2')
----
12
*/

/* example
statement error (SQ002)
SELECT token_count('a', model => 'tiny/resnet-shapes')
*/
