CREATE FUNCTION video_info(data bytea, on_error text DEFAULT NULL)
RETURNS TABLE(container text, codec text, width integer, height integer, fps double precision, duration_s double precision, frame_count bigint, rotation integer, audio_codec text) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'video_info';

CREATE FUNCTION video_info(data file, on_error text DEFAULT NULL)
RETURNS TABLE(container text, codec text, width integer, height integer, fps double precision, duration_s double precision, frame_count bigint, rotation integer, audio_codec text) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'video_info';

COMMENT ON FUNCTION video_info IS 'What the headers of a video say: one row, nothing is decoded.
width and height are those of the upright picture; rotation is the clockwise turn, in degrees, that makes it upright.
frame_count is length times rate where the file does not count its frames. audio_codec is NULL without sound.
Errors: 22P03 not a video, 54000 above squilla.max_file_bytes.';

/* example
query TTIIRRIIT
SELECT * FROM video_info(fixture('video/square.mp4'))
----
mp4 h264 64 48 10 3 30 0 aac
*/

/* example
query III
SELECT width, height, rotation FROM video_info(fixture('video/turned.mp4'))
----
48 64 270
*/

/* example
statement error (22P03)
SELECT * FROM video_info(fixture('video/truncated.mp4'), on_error => 'raise')
*/
