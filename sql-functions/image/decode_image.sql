CREATE FUNCTION decode_image(data bytea, mode text DEFAULT 'RGB', max_pixels bigint DEFAULT NULL, auto_orient boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'decode_image';

COMMENT ON FUNCTION decode_image IS 'The pixels of an image file: jpeg, png, webp, gif, bmp or tiff; of an animation the first picture.
mode: L, LA, RGB, RGBA, with 16 for 16 bits or 32F for floats behind it, or native for the mode of the file. Alpha is dropped
where the mode has none; grey is computed as Pillow does, and the pixels of a jpeg equal Pillow''s. max_pixels: a limit
below squilla.max_image_pixels. auto_orient: turns the picture upright by its EXIF orientation.
Errors: 22P03 damaged, cut or no image, 22023 unknown mode, 54000 too many pixels (told by the header, before memory is taken).';

/* example
query T
SELECT decode_image(fixture('image/scene.jpg'))
----
<image 120x80 RGB>
*/

/* example
query TT
SELECT decode_image(fixture('image/turned.jpg')), decode_image(fixture('image/turned.jpg'), mode => 'L', auto_orient => false)
----
<image 80x120 RGB> <image 120x80 L>
*/

/* example
query T
SELECT decode_image(fixture('image/truncated.jpg'), on_error => 'null')
----
NULL
*/

/* example
statement error (22P03)
SELECT decode_image(fixture('image/truncated.jpg'), on_error => 'raise')
*/

/* example
statement error (54000)
SELECT decode_image(fixture('image/bomb.png'), on_error => 'raise')
*/

/* example
statement error (54000)
SELECT decode_image(fixture('image/scene.jpg'), max_pixels => 100, on_error => 'raise')
*/

/* example
statement error (22023)
SELECT decode_image(fixture('image/scene.jpg'), mode => 'RBG')
*/
