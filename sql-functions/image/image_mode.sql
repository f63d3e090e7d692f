CREATE FUNCTION image_mode(image image, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_mode';

CREATE FUNCTION image_mode(data bytea, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_mode';

CREATE FUNCTION image_mode(file file, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_mode';

COMMENT ON FUNCTION image_mode IS 'Mode of an image: L, LA, RGB, RGBA, L16, RGB16, RGB32F and so on. A file tells of its own mode, which may be CMYK; a palette counts as its colours.
Of bytes and files only the header is read.
Errors: 22P03 not an image.';

/* example
query T
SELECT image_mode(fixture('image/scene.jpg'))
----
RGB
*/

/* example
query T
SELECT image_mode(fixture('image/cmyk.jpg'))
----
CMYK
*/

/* example
query T
SELECT image_mode(decode_image(fixture('image/grey16.png'), mode => 'native'))
----
L16
*/
