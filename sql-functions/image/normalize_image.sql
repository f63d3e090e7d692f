CREATE FUNCTION normalize_image(image image, mean real[] DEFAULT NULL, std real[] DEFAULT NULL, layout text DEFAULT 'chw', on_error text DEFAULT NULL)
RETURNS tensor LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'normalize_image';

COMMENT ON FUNCTION normalize_image IS '(pixel - mean) / std by channel, pixels in 0 to 1. mean and std have one value, or one a channel; left out they are those of
ImageNet. layout: chw or hwc.
Errors: 22023 mean or std that do not fit the channels, a std of zero.';

/* example
query T
SELECT tensor_shape(normalize_image(decode_image(fixture('image/scene.jpg'))))
----
{3,80,120}
*/

/* example
query T
SELECT tensor_data(normalize_image(decode_image(fixture('image/four.png')), mean => ARRAY[0.5], std => ARRAY[0.5], layout => 'hwc'))
----
{1,-1,-1,-1,1,-1,-1,-1,1,1,1,1}
*/

/* example
statement error (22023)
SELECT normalize_image(decode_image(fixture('image/scene.jpg')), mean => ARRAY[0.5, 0.5], on_error => 'raise')
*/
