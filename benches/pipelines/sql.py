"""The four statements of the benchmark."""

STATEMENTS = {
    "image": "SELECT uri, classify_image(file, model => '{models}/image') AS label FROM read_files('{data}/*')",
    "document": "SELECT f.uri, p.page_no, c.chunk_no, c.text, embed_text(c.text, model => '{models}/document') AS embedding FROM read_files('{data}/*') f,"
                " LATERAL pdf_pages(f.file, max_pages => 100) p, LATERAL chunk_text(p.text, chunk_size => 2048, overlap => 200, by => 'recursive') c",
    "audio": "SELECT uri, transcribe(file, language => 'en', model => '{models}/audio') AS text FROM read_files('{data}/*')",
    "video": "SELECT v.uri, f.frame_no, d.label, d.score, d.x1, d.y1, d.x2, d.y2, encode_image(crop_image(f.image, d.box), format => 'png') AS object"
             " FROM read_files('{data}/*') v, LATERAL video_frames(v.file, width => 640, height => 640, every => interval '0.4 s') f,"
             " LATERAL detect(f.image, max_detections => 3, model => '{models}/video') d",
}


def statement(workload, data, models, out):
    return f"COPY ({STATEMENTS[workload].format(data=data, models=models)}) TO '{out}/0.parquet' (FORMAT parquet)"
