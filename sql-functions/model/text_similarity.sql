CREATE FUNCTION text_similarity(a text, b text, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'text_similarity';

COMMENT ON FUNCTION text_similarity IS 'How near two texts are in meaning: the cosine of their vectors, -1 to 1.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.embed_text.
Errors: SQ001 unknown model, SQ002 a model for another task.';

/* example
query R
SELECT round(text_similarity('The quick brown fox jumps over the lazy dog.', 'A fast auburn fox leaped above a sleepy hound.', model => 'minilm-l6-v2')::numeric, 2)
----
0.64
*/
