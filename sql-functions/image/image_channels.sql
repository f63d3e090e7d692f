CREATE FUNCTION image_channels(image image, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_channels';

CREATE FUNCTION image_channels(data bytea, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_channels';

CREATE FUNCTION image_channels(file file, on_error text DEFAULT NULL)
RETURNS integer LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_channels';

COMMENT ON FUNCTION image_channels IS 'Channels of an image: 1 for L, 2 for LA, 3 for RGB, 4 for RGBA. A file tells of its own mode: 4 for CMYK, a palette counts as its colours.
Of bytes and files only the header is read.
Errors: 22P03 not an image.';

/* example
query I
SELECT image_channels(fixture('image/scene.jpg'))
----
3
*/

/* example
query I
SELECT image_channels(fixture('image/alpha.png'))
----
4
*/

/* example
query I
SELECT image_channels(decode_image(fixture('image/scene.jpg'), mode => 'L'))
----
1
*/
