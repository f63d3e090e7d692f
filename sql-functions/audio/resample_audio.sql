CREATE FUNCTION resample_audio(data audio, rate integer, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'resample_audio';

COMMENT ON FUNCTION resample_audio IS 'The recording at another sample rate, band-limited; within 45 dB or better of soxr.
Errors: 22023 rate out of range.';

/* example
query R
SELECT audio_duration(resample_audio(decode_audio(fixture('audio/tones.wav')), 8000))
----
1.5
*/

/* example
statement error (22023)
SELECT resample_audio(decode_audio(fixture('audio/tones.wav')), 0, on_error => 'raise')
*/
