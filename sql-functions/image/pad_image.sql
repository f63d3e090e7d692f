CREATE FUNCTION pad_image(image image, width integer, height integer, color text DEFAULT '#727272', on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'pad_image';

COMMENT ON FUNCTION pad_image IS 'An image in the middle of a canvas of one colour (#rrggbb). After resize_image with fit => ''contain'' this is letterboxing, as
detectors want it.
Errors: 22023 a canvas smaller than the image, a malformed colour, 54000 above squilla.max_image_pixels.';

/* example
query T
SELECT pad_image(resize_image(decode_image(fixture('image/scene.jpg')), 64, 64, fit => 'contain'), 64, 64)
----
<image 64x64 RGB>
*/

/* example
query T
SELECT tensor_data(image_to_tensor(crop_image(pad_image(decode_image(fixture('image/four.png')), 4, 4, color => '#0a0b0c'), 0, 0, 1, 1), scale => 1))
----
{10,11,12}
*/

/* example
statement error (22023)
SELECT pad_image(decode_image(fixture('image/scene.jpg')), 10, 10, on_error => 'raise')
*/
