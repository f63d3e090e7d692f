CREATE FUNCTION trim_audio(data audio, start_s double precision, end_s double precision, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'trim_audio';

COMMENT ON FUNCTION trim_audio IS 'The part of a recording between two times in seconds; what lies outside the recording is left out.
Errors: 22023 negative start, or start after end.';

/* example
query R
SELECT audio_duration(trim_audio(decode_audio(fixture('audio/tones.wav')), 0.5, 1.25))
----
0.75
*/

/* example
statement error (22023)
SELECT trim_audio(decode_audio(fixture('audio/tones.wav')), 2, 1, on_error => 'raise')
*/
