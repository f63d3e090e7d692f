CREATE FUNCTION tensor_to_image(tensor tensor, layout text DEFAULT 'chw', scale double precision DEFAULT 255, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'tensor_to_image';

COMMENT ON FUNCTION tensor_to_image IS 'An 8-bit image of a tensor with 1 to 4 channels: values times scale, rounded and clamped. layout: chw or hwc; a tensor of two
dimensions is grey.
Errors: 22023 a shape that is no image.';

/* example
query T
SELECT tensor_to_image(image_to_tensor(decode_image(fixture('image/scene.jpg'))))
----
<image 120x80 RGB>
*/

/* example
query I
SELECT hamming_distance(image_hash(i), image_hash(tensor_to_image(image_to_tensor(i)))) FROM (SELECT decode_image(fixture('image/scene.jpg')) AS i) s
----
0
*/
