CREATE FUNCTION video_frames(data bytea, fps double precision DEFAULT NULL, every interval DEFAULT NULL, keyframes_only boolean DEFAULT false, start_s double precision DEFAULT NULL, end_s double precision DEFAULT NULL, width integer DEFAULT NULL, height integer DEFAULT NULL, max_frames bigint DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(frame_no bigint, pts_s double precision, is_keyframe boolean, image image) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'video_frames';

CREATE FUNCTION video_frames(data file, fps double precision DEFAULT NULL, every interval DEFAULT NULL, keyframes_only boolean DEFAULT false, start_s double precision DEFAULT NULL, end_s double precision DEFAULT NULL, width integer DEFAULT NULL, height integer DEFAULT NULL, max_frames bigint DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(frame_no bigint, pts_s double precision, is_keyframe boolean, image image) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'video_frames';

COMMENT ON FUNCTION video_frames IS 'The frames of a video as RGB images, upright, in the order they are shown, one at a time as they are decoded.
every or fps: sample. The instants start_s, start_s + every, start_s + 2 every, ... are each answered by the first frame at or
after them; no frame comes twice. keyframes_only: only frames coded on their own, which costs a fraction.
start_s (inclusive), end_s (exclusive): seconds from the start. width, height: pixels; one alone keeps the aspect.
frame_no counts all frames from 0, also those left out. Fewer frames are decoded when LIMIT or max_frames says so.
Errors: 22P03 not a video or damaged, 22023 bad option, 54000 above squilla.max_video_frames, squilla.max_image_pixels or
squilla.max_file_bytes.';

/* example
query IRB
SELECT frame_no, pts_s, is_keyframe FROM video_frames(fixture('video/square.mp4'), every => interval '1 second')
----
0 0 t
10 1 t
20 2 t
*/

/* example
query IR
SELECT frame_no, pts_s FROM video_frames(fixture('video/square.avi'), start_s => 1.25, max_frames => 2)
----
13 1.3
14 1.4
*/

/* example
query II
SELECT count(*), max(frame_no) FROM video_frames(fixture('video/square.webm'), keyframes_only => true)
----
3 20
*/

/* example
statement error (22023)
SELECT * FROM video_frames(fixture('video/square.mp4'), fps => 1, every => interval '1 second', on_error => 'raise')
*/
