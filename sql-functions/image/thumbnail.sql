CREATE FUNCTION thumbnail(data bytea, size integer DEFAULT 256, on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'thumbnail';

CREATE FUNCTION thumbnail(image image, size integer DEFAULT 256, on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'thumbnail';

COMMENT ON FUNCTION thumbnail IS 'A jpeg of an image whose longer side has at most size pixels; never enlarged, always upright. Jpeg files are decoded at a
fraction of their size, which makes this much cheaper than decode_image and resize_image.
Errors: 22P03 damaged, cut or no image, 22023 size outside 1 to 16384, 54000 above squilla.max_image_pixels.';

/* example
query IIT
SELECT image_width(t), image_height(t), image_format(t) FROM (SELECT thumbnail(fixture('image/scene.png'), size => 60) AS t) s
----
60 40 jpeg
*/

/* example
query II
SELECT image_width(t), image_height(t) FROM (SELECT thumbnail(fixture('image/turned.jpg'), 30) AS t) s
----
20 30
*/

/* example
statement error (22023)
SELECT thumbnail(fixture('image/scene.jpg'), size => 0, on_error => 'raise')
*/
