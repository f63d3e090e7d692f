-- PDF files to pages, pages to chunks, chunks to vectors in a table; then the chunks nearest to a question.
-- Variables: media (folder), embedding_model, question.
\set files :media '/pdf/*.pdf'

\echo
\echo '== 2. Documents: which passages answer a question?'
DROP TABLE IF EXISTS chunks;

CREATE TABLE chunks AS
SELECT f.uri, p.page_no, c.chunk_no, c.text, embed_text(c.text, model => :'embedding_model') AS embedding
FROM read_files(:'files') f,
     LATERAL pdf_pages(f.file, max_pages => 100) p,
     LATERAL chunk_text(p.text, chunk_size => 2048, overlap => 200, by => 'recursive') c;

\echo :question
SELECT regexp_replace(uri, '.*/', '') AS document, page_no AS page,
       round((embedding <=> embed_text(:'question', model => :'embedding_model'))::numeric, 3) AS distance,
       left(replace(text, chr(10), ' '), 60) AS passage
FROM chunks
ORDER BY embedding <=> embed_text(:'question', model => :'embedding_model')
LIMIT 5;
