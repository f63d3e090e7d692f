CREATE FUNCTION audio_segments(data audio, window_s double precision DEFAULT 30, overlap_s double precision DEFAULT 0, align text DEFAULT 'none', sample_rate integer DEFAULT NULL, mono boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, audio audio) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_segments';

CREATE FUNCTION audio_segments(data bytea, window_s double precision DEFAULT 30, overlap_s double precision DEFAULT 0, align text DEFAULT 'none', sample_rate integer DEFAULT NULL, mono boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, audio audio) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_segments';

CREATE FUNCTION audio_segments(data file, window_s double precision DEFAULT 30, overlap_s double precision DEFAULT 0, align text DEFAULT 'none', sample_rate integer DEFAULT NULL, mono boolean DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, audio audio) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'audio_segments';

COMMENT ON FUNCTION audio_segments IS 'A recording cut into windows, as it is decoded: memory does not grow with its length.
window_s: seconds of a window. overlap_s: seconds that a window repeats of the one before. align: none cuts after window_s
seconds, silence cuts in the quietest place of the last fifth of the window. The last window ends with the recording.
sample_rate: hertz of a recording that is decoded here, 16000 unless given, 0 keeps its own. mono: mix all channels to their
mean, true unless given. Audio that is already decoded keeps its rate and its channels.
Errors: 22023 bad window, 22P03 not a sound file or damaged, 54000 above squilla.max_audio_seconds or squilla.max_file_bytes.';

/* example
query IRR
SELECT seg_no, start_s, end_s FROM audio_segments(fixture('audio/tones.flac'), window_s => 1, overlap_s => 0.25)
----
0 0 1
1 0.75 1.5
*/

/* example
query I
SELECT count(*) FROM audio_segments(decode_audio(fixture('audio/tones.flac')), window_s => 0.5)
----
3
*/

/* example
statement error (22023)
SELECT * FROM audio_segments(fixture('audio/tones.flac'), align => 'loud')
*/
