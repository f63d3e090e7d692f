CREATE FUNCTION trim_silence(data audio, threshold_db double precision DEFAULT -40)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'trim_silence';

COMMENT ON FUNCTION trim_silence IS 'The recording without the silence at its start and end: stretches of 20 ms that are quieter than threshold_db decibels of full
scale. Silence throughout gives no samples.';

/* example
query B
SELECT audio_duration(trim_silence(a)) < audio_duration(a) FROM (SELECT decode_audio(fixture('audio/words.flac')) AS a) s
----
t
*/
