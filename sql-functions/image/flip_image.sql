CREATE FUNCTION flip_image(image image, direction text DEFAULT 'h', on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'flip_image';

COMMENT ON FUNCTION flip_image IS 'An image mirrored: h, left and right change places; v, top and bottom do.
Errors: 22023 unknown direction.';

/* example
query T
SELECT flip_image(decode_image(fixture('image/scene.jpg')), 'v')
----
<image 120x80 RGB>
*/

/* example
query T
SELECT tensor_data(image_to_tensor(crop_image(flip_image(decode_image(fixture('image/four.png'))), 0, 0, 1, 1), scale => 1))
----
{0,255,0}
*/

/* example
statement error (22023)
SELECT flip_image(decode_image(fixture('image/four.png')), 'x', on_error => 'raise')
*/
