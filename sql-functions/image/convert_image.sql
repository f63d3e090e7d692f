CREATE FUNCTION convert_image(image image, mode text, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'convert_image';

COMMENT ON FUNCTION convert_image IS 'An image in another mode: L, LA, RGB or RGBA, with 16 for 16 bits or 32F for floats in 0 to 1 behind it.
Grey is (19595 R + 38470 G + 7471 B) / 65536, as in Pillow. Alpha is dropped where the mode has none; 16 bits become 8 by
their high byte.
Errors: 22023 unknown mode.';

/* example
query TT
SELECT convert_image(i, 'L'), convert_image(i, 'RGB32F') FROM (SELECT decode_image(fixture('image/scene.jpg')) AS i) s
----
<image 120x80 L> <image 120x80 RGB32F>
*/

/* example
query T
SELECT tensor_data(image_to_tensor(convert_image(decode_image(fixture('image/four.png')), 'L'), scale => 1))
----
{76,150,29,255}
*/

/* example
statement error (22023)
SELECT convert_image(decode_image(fixture('image/scene.jpg')), 'CMYK')
*/
