CREATE FUNCTION image_height(image image, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_height';

CREATE FUNCTION image_height(data bytea, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_height';

CREATE FUNCTION image_height(file file, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_height';

COMMENT ON FUNCTION image_height IS 'Pixels of an image from top to bottom, upright, as decode_image gives it.
Of bytes and files only the header is read.
Errors: 22P03 not an image.';

/* example
query I
SELECT image_height(fixture('image/scene.jpg'))
----
80
*/

/* example
query I
SELECT image_height(fixture('image/turned.jpg'))
----
120
*/

/* example
query I
SELECT image_height(resize_image(decode_image(fixture('image/scene.jpg')), 30, 30))
----
30
*/
