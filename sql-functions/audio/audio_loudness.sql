CREATE FUNCTION audio_loudness(data audio)
RETURNS TABLE(rms_db double precision, peak_db double precision, lufs double precision) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_loudness';

COMMENT ON FUNCTION audio_loudness IS 'How loud a recording is: one row. rms_db and peak_db are decibels of full scale, -120 for silence; lufs is the integrated loudness of
ITU-R BS.1770, -70 for silence and for less than 0.4 s.';

/* example
query BBB
SELECT rms_db BETWEEN -9.1 AND -9, peak_db BETWEEN -6.1 AND -6, lufs BETWEEN -7 AND -6
FROM audio_loudness(decode_audio(fixture('audio/tones.wav'), sample_rate => 0, mono => false))
----
t t t
*/
