CREATE FUNCTION image_tiles(image image, width integer, height integer, overlap integer DEFAULT 0, on_error text DEFAULT NULL)
RETURNS TABLE(tile_row integer, tile_column integer, box box2d, image image) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_tiles';

COMMENT ON FUNCTION image_tiles IS 'The pieces of an image, row by row, one row each. tile_row and tile_column count from 0; box is the place in the image. Neighbours
share overlap pixels; tiles at the right and bottom edge may be smaller.
Errors: 22023 sides that are not positive, an overlap as large as a side.';

/* example
query IITT
SELECT tile_row, tile_column, box, image FROM image_tiles(decode_image(fixture('image/scene.jpg')), 64, 64) ORDER BY 1, 2
----
0 0 (0,0),(64,64) <image 64x64 RGB>
0 1 (64,0),(120,64) <image 56x64 RGB>
1 0 (0,64),(64,80) <image 64x16 RGB>
1 1 (64,64),(120,80) <image 56x16 RGB>
*/

/* example
query I
SELECT count(*) FROM image_tiles(decode_image(fixture('image/scene.jpg')), 50, 50, overlap => 10)
----
6
*/

/* example
statement error (22023)
SELECT * FROM image_tiles(decode_image(fixture('image/scene.jpg')), 0, 10, on_error => 'raise')
*/
