CREATE FUNCTION video_scenes(data bytea, threshold double precision DEFAULT 0.3, on_error text DEFAULT NULL)
RETURNS TABLE(scene_no bigint, start_s double precision, end_s double precision) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'video_scenes';

CREATE FUNCTION video_scenes(data file, threshold double precision DEFAULT 0.3, on_error text DEFAULT NULL)
RETURNS TABLE(scene_no bigint, start_s double precision, end_s double precision) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'video_scenes';

COMMENT ON FUNCTION video_scenes IS 'The scenes of a video, in order and without a hole. A scene begins where the colours of two neighbouring frames differ by more than
threshold: 0 is no difference, 1 nothing in common. end_s is the time of the next scene, or of the last frame.
Errors: 22P03 not a video or damaged, 22023 threshold not between 0 and 1, 54000 above squilla.max_video_frames,
squilla.max_image_pixels or squilla.max_file_bytes.';

/* example
query IRR
SELECT scene_no, start_s, end_s FROM video_scenes(fixture('video/cuts.mp4'))
----
0 0 1
1 1 1.5
2 1.5 1.9
*/

/* example
statement error (22023)
SELECT * FROM video_scenes(fixture('video/cuts.mp4'), threshold => 2, on_error => 'raise')
*/
