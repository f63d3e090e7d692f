CREATE FUNCTION video_audio(data bytea, sample_rate integer DEFAULT 16000, mono boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'video_audio';

CREATE FUNCTION video_audio(data file, sample_rate integer DEFAULT 16000, mono boolean DEFAULT true, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'video_audio';

COMMENT ON FUNCTION video_audio IS 'The sound of a video. sample_rate: hertz, 0 keeps the track''s own. mono: mix all channels to their mean.
Errors: 22P03 without sound or damaged, 54000 above squilla.max_audio_seconds or squilla.max_file_bytes.';

/* example
query TI
SELECT i.codec, i.sample_rate FROM audio_info(encode_audio(video_audio(fixture('video/square.mp4')))) i
----
pcm_s16le 16000
*/

/* example
statement error (22P03)
SELECT video_audio(fixture('video/square.avi'), on_error => 'raise')
*/
