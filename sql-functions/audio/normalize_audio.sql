CREATE FUNCTION normalize_audio(data audio, target_db double precision DEFAULT -20, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'normalize_audio';

COMMENT ON FUNCTION normalize_audio IS 'The recording with its root mean square at target_db decibels of full scale, or as near as the loudest sample allows without
clipping. Silence stays silence.
Errors: 22023 target_db not between -120 and 0.';

/* example
query B
SELECT abs(l.rms_db + 20) < 0.01 FROM audio_loudness(normalize_audio(decode_audio(fixture('audio/tones.wav')))) l
----
t
*/

/* example
statement error (22023)
SELECT normalize_audio(decode_audio(fixture('audio/tones.wav')), target_db => 6, on_error => 'raise')
*/
