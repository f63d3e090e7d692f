CREATE FUNCTION encode_image(image image, format text DEFAULT 'jpeg', quality integer DEFAULT 85, on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'encode_image';

COMMENT ON FUNCTION encode_image IS 'The bytes of an image file: jpeg, png, webp (lossless), bmp or tiff.
quality: 1 to 100, for jpeg. A jpeg shows white where the image is transparent; floats are stored at 16 bits by png.
Errors: 22023 unknown format, quality outside its range, or more pixels than the format can hold.';

/* example
query T
SELECT image_format(encode_image(decode_image(fixture('image/scene.jpg')), format => 'webp'))
----
webp
*/

/* example
query B
SELECT length(encode_image(decode_image(fixture('image/scene.png')), quality => 30)) < length(encode_image(decode_image(fixture('image/scene.png')), quality => 95))
----
t
*/

/* example
query T
SELECT decode_image(encode_image(decode_image(fixture('image/alpha.png'), mode => 'RGBA'), format => 'png'), mode => 'native')
----
<image 120x80 RGBA>
*/

/* example
statement error (22023)
SELECT encode_image(decode_image(fixture('image/scene.jpg')), quality => 101, on_error => 'raise')
*/
