CREATE FUNCTION image_format(data bytea, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_format';

CREATE FUNCTION image_format(file file, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_format';

COMMENT ON FUNCTION image_format IS 'Format of an image file, by its content: jpeg, png, webp, gif, bmp or tiff. Only the header is read.
Errors: 22P03 not an image.';

/* example
query TT
SELECT image_format(fixture('image/scene.jpg')), image_format(fixture('image/animated.gif'))
----
jpeg gif
*/

/* example
statement error (22P03)
SELECT image_format('hello'::bytea, on_error => 'raise')
*/
