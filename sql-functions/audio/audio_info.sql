CREATE FUNCTION audio_info(data bytea, on_error text DEFAULT NULL)
RETURNS TABLE(codec text, container text, sample_rate integer, channels integer, duration_s double precision, frames bigint, bit_rate bigint) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_info';

CREATE FUNCTION audio_info(data file, on_error text DEFAULT NULL)
RETURNS TABLE(codec text, container text, sample_rate integer, channels integer, duration_s double precision, frames bigint, bit_rate bigint) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'audio_info';

COMMENT ON FUNCTION audio_info IS 'What the headers of a recording, or of the sound of a video, say: one row, nothing is decoded.
frames counts samples per channel, encoder padding left out; it and duration_s are NULL where the file cannot tell. bit_rate is the
mean of the whole file.
Errors: 22P03 not a sound file, 54000 above squilla.max_file_bytes.';

/* example
query TTIIRI
SELECT codec, container, sample_rate, channels, duration_s, frames FROM audio_info(fixture('audio/tones.mp3'))
----
mp3 mp3 22050 2 1.5 33075
*/

/* example
query TTI
SELECT codec, container, channels FROM audio_info(fixture('audio/surround.m4a'))
----
aac mp4 6
*/

/* example
statement error (22P03)
SELECT * FROM audio_info(fixture('audio/noise.mp3'), on_error => 'raise')
*/
