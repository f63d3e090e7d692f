CREATE FUNCTION audio_duration(data bytea, on_error text DEFAULT NULL)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_duration';

CREATE FUNCTION audio_duration(data file, on_error text DEFAULT NULL)
RETURNS double precision LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'audio_duration';

CREATE FUNCTION audio_duration(data audio, on_error text DEFAULT NULL)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'audio_duration';

COMMENT ON FUNCTION audio_duration IS 'Length of a recording in seconds, of a file from its headers; NULL where the file cannot tell.
Errors: 22P03 not a sound file, 54000 above squilla.max_file_bytes.';

/* example
query R
SELECT audio_duration(fixture('audio/tones.ogg'))
----
1.5
*/

/* example
query R
SELECT audio_duration('no sound'::bytea, on_error => 'null')
----
NULL
*/
