CREATE FUNCTION rerank(query text, document text, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'rerank';

COMMENT ON FUNCTION rerank IS 'How well a document answers a query, 0 to 1, told by a model that reads both together.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.rerank.
Errors: SQ001 unknown model, SQ002 a model for another task.';

/* example
statement error (SQ002)
SELECT rerank('a query', 'a document', model => 'tiny/clip-random')
*/
