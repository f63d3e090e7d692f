-- Pictures to labels, counted.
-- Variables: media (folder), image_model.
\set files :media '/images/*'

\echo
\echo '== 3. Images: what do these pictures show?'
SELECT label, count(*)
FROM (
  SELECT classify_image(decode_image(content), model => :'image_model') AS label
  FROM read_files(:'files')
) pictures
GROUP BY label
ORDER BY count(*) DESC, label;
