CREATE FUNCTION crop_image(image image, x integer, y integer, width integer, height integer, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'crop_image';

CREATE FUNCTION crop_image(image image, box box2d, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'crop_image';

COMMENT ON FUNCTION crop_image IS 'The part of an image within a rectangle, in pixels of the image, from the top left. The rectangle is clamped to the image;
NULL when nothing is left. The sides of a box are rounded to whole pixels.
Errors: 22023 a box whose sides are not finite.';

/* example
query T
SELECT crop_image(decode_image(fixture('image/scene.jpg')), 100, 70, 50, 50)
----
<image 20x10 RGB>
*/

/* example
query T
SELECT crop_image(decode_image(fixture('image/scene.jpg')), '(10,20),(40,60)'::box2d)
----
<image 30x40 RGB>
*/

/* example
query T
SELECT crop_image(decode_image(fixture('image/scene.jpg')), 500, 0, 10, 10)
----
NULL
*/
