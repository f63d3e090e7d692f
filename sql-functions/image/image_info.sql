CREATE FUNCTION image_info(data bytea, on_error text DEFAULT NULL)
RETURNS TABLE(width integer, height integer, channels integer, mode text, format text, bits integer, exif_orientation integer, frames integer) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_info';

CREATE FUNCTION image_info(file file, on_error text DEFAULT NULL)
RETURNS TABLE(width integer, height integer, channels integer, mode text, format text, bits integer, exif_orientation integer, frames integer) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'image_info';

COMMENT ON FUNCTION image_info IS 'What an image file says of itself: one row, read from the header alone; of a file 64 KiB nearly always suffice.
width and height are those of the upright picture, as decode_image gives it. bits: of one sample, or of one palette index.
frames is NULL where counting them takes more than the header of a file.
Errors: 22P03 not an image.';

/* example
query IIITTIII
SELECT * FROM image_info(fixture('image/turned.jpg'))
----
80 120 3 RGB jpeg 8 6 1
*/

/* example
query IIITTII
SELECT width, height, channels, mode, format, bits, frames FROM image_info(fixture('image/grey16.png'))
----
120 80 1 L16 png 16 1
*/

/* example
query I
SELECT frames FROM image_info(fixture('image/animated.gif'))
----
3
*/

/* example
statement error (22P03)
SELECT * FROM image_info('hello'::bytea, on_error => 'raise')
*/
