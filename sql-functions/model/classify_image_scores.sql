CREATE FUNCTION classify_image_scores(image image, labels text[] DEFAULT NULL, top_k integer DEFAULT 5, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(label text, score real) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'classify_image_scores';

CREATE FUNCTION classify_image_scores(data bytea, labels text[] DEFAULT NULL, top_k integer DEFAULT 5, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(label text, score real) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'classify_image_scores';

COMMENT ON FUNCTION classify_image_scores IS 'The best labels of a picture with their probabilities, best first. top_k: rows at most.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.classify_image.
Errors: SQ001 unknown model, SQ002 a model for another task or labels that do not
fit it, 22023 bad option, 22P03 not an image.';

/* example
query TR
SELECT label, round(score::numeric, 1) FROM classify_image_scores(fixture('model/circle.png'), top_k => 1, model => 'tiny/resnet-shapes')
----
circle 1.0
*/

/* example
query I
SELECT count(*) FROM classify_image_scores(fixture('model/circle.png'), model => 'tiny/resnet-shapes')
----
5
*/
