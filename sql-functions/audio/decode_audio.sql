CREATE FUNCTION decode_audio(data bytea, sample_rate integer DEFAULT 16000, mono boolean DEFAULT true, start_s double precision DEFAULT 0, duration_s double precision DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'decode_audio';

CREATE FUNCTION decode_audio(data file, sample_rate integer DEFAULT 16000, mono boolean DEFAULT true, start_s double precision DEFAULT 0, duration_s double precision DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS audio LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'decode_audio';

COMMENT ON FUNCTION decode_audio IS 'The samples of a recording, or of the sound of a video: WAV, FLAC, MP3, Ogg Vorbis, Opus, AAC, ALAC, WMA, AC-3 and more.
sample_rate: hertz, 0 keeps the recording''s own. mono: mix all channels to their mean. start_s, duration_s: the part
wanted, in seconds; a part after the end has no samples. A truncated file gives what is there.
Errors: 22P03 not a sound file or damaged, 54000 above squilla.max_audio_seconds or squilla.max_file_bytes.';

/* example
query IIR
SELECT i.sample_rate, i.channels, i.duration_s FROM audio_info(encode_audio(decode_audio(fixture('audio/tones.wav')))) i
----
16000 1 1.5
*/

/* example
query IIR
SELECT i.sample_rate, i.channels, i.duration_s
FROM audio_info(encode_audio(decode_audio(fixture('audio/tones.ogg'), sample_rate => 0, mono => false, start_s => 1, duration_s => 0.2))) i
----
22050 2 0.2
*/

/* example
query T
SELECT decode_audio(fixture('audio/noise.mp3'), on_error => 'null')
----
NULL
*/

/* example
statement error (22P03)
SELECT decode_audio(fixture('audio/noise.mp3'), on_error => 'raise')
*/

/* example
statement error (22023)
SELECT decode_audio(fixture('audio/tones.wav'), sample_rate => -1, on_error => 'raise')
*/
