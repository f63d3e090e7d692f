CREATE FUNCTION rotate_image(image image, degrees double precision, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'rotate_image';

COMMENT ON FUNCTION rotate_image IS 'An image turned clockwise by a multiple of 90 degrees.
Errors: 22023 other angles.';

/* example
query TT
SELECT rotate_image(i, 90), rotate_image(i, -180) FROM (SELECT decode_image(fixture('image/scene.jpg')) AS i) s
----
<image 80x120 RGB> <image 120x80 RGB>
*/

/* example
statement error (22023)
SELECT rotate_image(decode_image(fixture('image/scene.jpg')), 45, on_error => 'raise')
*/
