CREATE FUNCTION encode_audio(data audio, format text DEFAULT 'wav', on_error text DEFAULT NULL)
RETURNS bytea LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'encode_audio';

COMMENT ON FUNCTION encode_audio IS 'The bytes of a sound file. format: wav holds 16-bit integers, wav32f 32-bit floats without loss, flac
16-bit integers in about half the bytes.
Errors: 22023 unknown format or more channels than it holds, 54000 more than 4 GiB.';

/* example
query TI
SELECT i.codec, i.sample_rate FROM audio_info(encode_audio(decode_audio(fixture('audio/tones.ogg')))) i
----
pcm_s16le 16000
*/

/* example
statement error (22023)
SELECT encode_audio(decode_audio(fixture('audio/tones.ogg')), format => 'mp3')
*/

/* example
query TRB
SELECT i.codec, i.duration_s, length(encode_audio(a, format => 'flac')) < length(encode_audio(a))
FROM (SELECT decode_audio(fixture('audio/tones.wav')) AS a) s, LATERAL audio_info(encode_audio(a, format => 'flac')) i
----
flac 1.5 t
*/
