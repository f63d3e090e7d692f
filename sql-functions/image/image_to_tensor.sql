CREATE FUNCTION image_to_tensor(image image, layout text DEFAULT 'chw', scale double precision DEFAULT 255, on_error text DEFAULT NULL)
RETURNS tensor LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_to_tensor';

COMMENT ON FUNCTION image_to_tensor IS 'The pixels of an image as a tensor, divided by scale. layout: chw or hwc.
Errors: 22023 a scale of zero, unknown layout.';

/* example
query T
SELECT tensor_shape(image_to_tensor(decode_image(fixture('image/scene.jpg')), layout => 'hwc'))
----
{80,120,3}
*/

/* example
query T
SELECT tensor_data(image_to_tensor(decode_image(fixture('image/four.png'))))
----
{1,0,0,1,0,1,0,1,0,0,1,1}
*/

/* example
statement error (22023)
SELECT image_to_tensor(decode_image(fixture('image/four.png')), scale => 0, on_error => 'raise')
*/
