CREATE FUNCTION video_frame_at(data bytea, t double precision, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'video_frame_at';

CREATE FUNCTION video_frame_at(data file, t double precision, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'video_frame_at';

COMMENT ON FUNCTION video_frame_at IS 'The frame that is shown t seconds after the start, as an upright RGB image: the last one that is not later.
Errors: 22P03 not a video or damaged, 22023 t before the start or after the end.';

/* example
query II
SELECT image_width(i), image_height(i) FROM (SELECT video_frame_at(fixture('video/square.mp4'), 1.5) AS i) s
----
64 48
*/

/* example
statement error (22023)
SELECT video_frame_at(fixture('video/square.mp4'), 99, on_error => 'raise')
*/
