CREATE FUNCTION image_hash(image image, method text DEFAULT 'phash', size integer DEFAULT 8, on_error text DEFAULT NULL)
RETURNS bit LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_hash';

CREATE FUNCTION image_hash(data bytea, method text DEFAULT 'phash', size integer DEFAULT 8, on_error text DEFAULT NULL)
RETURNS bit LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_hash';

COMMENT ON FUNCTION image_hash IS 'size x size bits that tell what an image looks like; near duplicates differ in few of them (compare by hamming_distance).
method: phash, dhash, ahash or whash, bit by bit as the Python library imagehash computes them from the upright picture.
Errors: 22P03 damaged, cut or no image, 22023 unknown method, size outside 2 to 64 or (whash) no power of two.';

/* example
query B
SELECT hamming_distance(image_hash(fixture('image/scene.jpg')), image_hash(fixture('image/scene_small.jpg'))) <= 6
----
t
*/

/* example
query B
SELECT hamming_distance(image_hash(fixture('image/scene.jpg'), method => 'dhash'), image_hash(fixture('image/other.jpg'), method => 'dhash')) > 8
----
t
*/

/* example
query I
SELECT hamming_distance(image_hash(fixture('image/scene.jpg')), image_hash(decode_image(fixture('image/scene.jpg'))))
----
0
*/

/* example
statement error (22023)
SELECT image_hash(fixture('image/scene.jpg'), size => 1, on_error => 'raise')
*/

/* example
statement error (22P03)
SELECT image_hash(fixture('image/truncated.jpg'), on_error => 'raise')
*/
