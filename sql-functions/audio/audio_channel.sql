CREATE FUNCTION audio_channel(data audio, n integer, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_channel';

COMMENT ON FUNCTION audio_channel IS 'One channel of a recording alone, counted from 1.
Errors: 22023 no such channel.';

/* example
query R
SELECT audio_duration(audio_channel(decode_audio(fixture('audio/tones.wav'), mono => false), 2))
----
1.5
*/

/* example
statement error (22023)
SELECT audio_channel(decode_audio(fixture('audio/tones.wav')), 2, on_error => 'raise')
*/
