-- Videos to frames, frames to the objects in them, each object cut out as a PNG, into a Parquet file.
-- Variables: media (folder), out (folder for results), detection_model.
\set files :media '/video/*'
\set target :out '/objects.parquet'

\echo
\echo '== 4. Video: which objects appear, where and when?'
COPY (
  SELECT v.uri, f.frame_no, f.pts_s, d.label, d.score, d.box,
         encode_image(crop_image(f.image, d.box), format => 'png') AS object
  FROM read_files(:'files') v,
       LATERAL video_frames(v.file, width => 640, height => 640, every => interval '0.4 s') f,
       LATERAL detect(f.image, model => :'detection_model') d
) TO :'target' (FORMAT parquet);

SELECT label, count(*) AS objects, count(DISTINCT uri) AS videos, round(avg(score)::numeric, 2) AS score,
       pg_size_pretty(sum(length(object))) AS png
FROM read_parquet(:'target')
GROUP BY label
ORDER BY objects DESC, label;
