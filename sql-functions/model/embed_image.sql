CREATE FUNCTION embed_image(image image, model text DEFAULT NULL, dims integer DEFAULT NULL, normalize boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS vector LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'embed_image';

CREATE FUNCTION embed_image(data bytea, model text DEFAULT NULL, dims integer DEFAULT NULL, normalize boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS vector LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'embed_image';

COMMENT ON FUNCTION embed_image IS 'The vector of a picture, in the space of embed_text of the same model where the model has both.
dims: keep the first so many numbers. normalize: scale to length 1.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.embed_image.
Errors: SQ001 unknown model, SQ002 a model for another task, 22P03 not an image.';

/* example
query I
SELECT vector_dims(embed_image(decode_image(fixture('model/circle.png')), model => 'tiny/clip-random'))
----
32
*/

/* example
query R
SELECT round(vector_norm(embed_image(fixture('model/circle.png'), model => 'tiny/clip-random'))::numeric, 3)
----
1.000
*/

/* example
statement error (22P03)
SELECT embed_image('junk'::bytea, model => 'tiny/clip-random', on_error => 'raise')
*/
