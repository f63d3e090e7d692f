CREATE FUNCTION transcribe_segments(audio audio, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, text text, avg_logprob real, no_speech_prob real, language text) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe_segments';

CREATE FUNCTION transcribe_segments(data bytea, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, text text, avg_logprob real, no_speech_prob real, language text) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe_segments';

CREATE FUNCTION transcribe_segments(data file, language text DEFAULT NULL, task text DEFAULT 'transcribe', model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(seg_no integer, start_s double precision, end_s double precision, text text, avg_logprob real, no_speech_prob real, language text) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'transcribe_segments';

COMMENT ON FUNCTION transcribe_segments IS 'The words of a recording of any length with their times in seconds, one row a segment; none where nobody speaks.
language: en, de, ...; by default the model tells it. task: transcribe, or translate into English.
Long recordings are cut at their quietest moments.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.transcribe.
Errors: SQ001 unknown model, SQ002 a model for another task, 22023 unknown language or task,
22P03 not a sound file.';

/* example
query IRTT
SELECT seg_no, start_s, text, language FROM transcribe_segments(fixture('model/words.wav'), model => 'tiny/whisper-commands')
----
1 0.4 nine three green en
*/
