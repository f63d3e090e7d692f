CREATE FUNCTION classify_image(image image, labels text[] DEFAULT NULL, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'classify_image';

CREATE FUNCTION classify_image(data bytea, labels text[] DEFAULT NULL, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'classify_image';

COMMENT ON FUNCTION classify_image IS 'The label of a picture: the best of the model''s own classes, or of labels for a model that sees text and images.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.classify_image.
Errors: SQ001 unknown model, SQ002 a model for another task or labels that do not
fit it, 22023 an empty list of labels, 22P03 not an image.';

/* example
query TT
SELECT classify_image(decode_image(fixture('model/circle.png')), model => 'tiny/resnet-shapes'),
       classify_image(fixture('model/square.jpg'), model => 'tiny/resnet-shapes')
----
circle square
*/

/* example
query T
SELECT classify_image(fixture('model/circle.png'), labels => ARRAY['a dog'], model => 'tiny/clip-random')
----
a dog
*/

/* example
query T
SELECT classify_image('junk'::bytea, model => 'tiny/resnet-shapes')
----
NULL
*/

/* example
statement error (SQ002)
SELECT classify_image(fixture('model/circle.png'), labels => ARRAY['a dog'], model => 'tiny/resnet-shapes')
*/
