CREATE FUNCTION transcribe(audio audio, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe';

CREATE FUNCTION transcribe(data bytea, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe';

CREATE FUNCTION transcribe(data file, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe';

COMMENT ON FUNCTION transcribe IS 'The words of a recording of any length; an empty text where nobody speaks.
language: en, de, ...; by default the model tells it. task: transcribe, or translate into English.
Long recordings are cut at their quietest moments.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.transcribe.
Errors: SQ001 unknown model, SQ002 a model for another task, 22023 unknown language or task,
22P03 not a sound file.';

/* example
query T
SELECT transcribe(fixture('model/words.wav'), model => 'tiny/whisper-commands')
----
nine three green
*/

/* example
query T
SELECT transcribe(decode_audio(fixture('model/words.wav')), language => 'en', model => 'tiny/whisper-commands')
----
nine three green
*/

/* example
statement error (22023)
SELECT transcribe(fixture('model/words.wav'), language => 'xx', model => 'tiny/whisper-commands')
*/
