-- Recordings to text, into a Parquet file.
-- Variables: media (folder), out (folder for results), speech_model.
\set files :media '/audio/*'
\set target :out '/transcripts.parquet'

\echo
\echo '== 1. Audio: what is said in these recordings?'
COPY (
  SELECT uri, transcribe(file, model => :'speech_model') AS text
  FROM read_files(:'files')
) TO :'target' (FORMAT parquet);

SELECT regexp_replace(uri, '.*/', '') AS recording, text
FROM read_parquet(:'target')
WHERE text IS NOT NULL
ORDER BY uri
LIMIT 5;
