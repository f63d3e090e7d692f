CREATE FUNCTION embed_text(text text, model text DEFAULT NULL, dims integer DEFAULT NULL, normalize boolean DEFAULT true, kind text DEFAULT NULL, truncate boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS vector LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'embed_text';

COMMENT ON FUNCTION embed_text IS 'The vector of a text. Equal texts are embedded once.
dims: keep the first so many numbers. normalize: scale to length 1. kind: query or document, for models with a prompt for
each. truncate: cut a text that is too long for the model; false makes it an error of the row.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.embed_text.
Errors: SQ001 unknown model, SQ002 a model for another task, 22023 bad option or text too long.';

/* example
query I
SELECT vector_dims(embed_text('A quick brown fox', model => 'sentence-transformers/all-MiniLM-L6-v2'))
----
384
*/

/* example
query R
SELECT round(cosine_similarity(embed_text('How do I reset my password?', model => 'minilm-l6-v2'),
                               embed_text('I forgot my login credentials, what should I do?', model => 'minilm-l6-v2'))::numeric, 1)
     - round(cosine_similarity(embed_text('How do I reset my password?', model => 'minilm-l6-v2'),
                               embed_text('How do I reset my password?', model => 'minilm-l6-v2'))::numeric, 1) < 0
----
t
*/

/* example
query T
SELECT embed_text(NULL, model => 'tiny/clip-random')
----
NULL
*/

/* example
statement error (SQ001)
SELECT embed_text('a', model => 'minilm-l7')
*/

/* example
statement error (SQ002)
SELECT embed_text('a', model => 'tiny/resnet-shapes')
*/
