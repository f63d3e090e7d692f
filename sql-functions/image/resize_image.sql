CREATE FUNCTION resize_image(image image, width integer, height integer, fit text DEFAULT 'stretch', filter text DEFAULT 'triangle', on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'resize_image';

COMMENT ON FUNCTION resize_image IS 'An image at another size, in the same mode.
fit: stretch gives exactly width x height; contain keeps proportions within it; cover keeps proportions around it and cuts
the centre out (Resize and CenterCrop of torchvision). filter: nearest, triangle (bilinear), catmullrom (bicubic) or lanczos3;
triangle and catmullrom equal torchvision bit by bit.
Errors: 22023 a side that is not positive, unknown fit or filter, 54000 above squilla.max_image_pixels.';

/* example
query TTT
SELECT resize_image(i, 30, 30), resize_image(i, 30, 30, fit => 'contain'), resize_image(i, 30, 30, fit => 'cover', filter => 'lanczos3') FROM (SELECT decode_image(fixture('image/scene.jpg')) AS i) s
----
<image 30x30 RGB> <image 30x20 RGB> <image 30x30 RGB>
*/

/* example
statement error (22023)
SELECT resize_image(decode_image(fixture('image/scene.jpg')), 0, 10, on_error => 'raise')
*/

/* example
statement error (22023)
SELECT resize_image(decode_image(fixture('image/scene.jpg')), 10, 10, fit => 'cower')
*/
