CREATE FUNCTION image_width(image image, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_width';

CREATE FUNCTION image_width(data bytea, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_width';

CREATE FUNCTION image_width(file file, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_width';

COMMENT ON FUNCTION image_width IS 'Pixels of an image from left to right, upright, as decode_image gives it.
Of bytes and files only the header is read.
Errors: 22P03 not an image.';

/* example
query I
SELECT image_width(fixture('image/scene.jpg'))
----
120
*/

/* example
query I
SELECT image_width(fixture('image/turned.jpg'))
----
80
*/

/* example
query I
SELECT image_width(resize_image(decode_image(fixture('image/scene.jpg')), 30, 30))
----
30
*/
