CREATE FUNCTION image_similarity(a image, b image, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_similarity';

CREATE FUNCTION image_similarity(data_a bytea, data_b bytea, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS real LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_similarity';

COMMENT ON FUNCTION image_similarity IS 'How near two pictures are to a model: the cosine of their vectors, -1 to 1.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.embed_image.
Errors: SQ001 unknown model, SQ002 a model for another task, 22P03 not an image.';

/* example
query R
SELECT round(image_similarity(fixture('model/circle.png'), fixture('model/circle.png'), model => 'tiny/clip-random')::numeric, 3)
----
1.000
*/
