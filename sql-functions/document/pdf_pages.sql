CREATE FUNCTION pdf_pages(data bytea, pages text DEFAULT NULL, max_pages integer DEFAULT NULL, layout text DEFAULT 'plain', on_error text DEFAULT NULL)
RETURNS TABLE(page_no integer, text text, width real, height real, char_count integer, image_count integer, needs_ocr boolean) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'pdf_pages';

CREATE FUNCTION pdf_pages(data file, pages text DEFAULT NULL, max_pages integer DEFAULT NULL, layout text DEFAULT 'plain', on_error text DEFAULT NULL)
RETURNS TABLE(page_no integer, text text, width real, height real, char_count integer, image_count integer, needs_ocr boolean) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'pdf_pages';

COMMENT ON FUNCTION pdf_pages IS 'The pages of a PDF document, one row each, as they are read.
pages: which ones, such as 1-10,12,20-. max_pages: at most so many of them. layout: plain is the order of the file,
reading_order goes column by column and needs the PDFium library. width and height are in points, rotation applied.
needs_ocr: the page shows images and next to no readable text. A page that cannot be read has NULL for its text; the
other pages still come.
Errors: 22P03 not a PDF or a password needed, 22023 bad page range, 54000 above squilla.max_pdf_pages or squilla.max_file_bytes.';

/* example
query IIIB
SELECT page_no, char_count, image_count, needs_ocr FROM pdf_pages(fixture('document/report.pdf'))
----
1 97 0 f
2 367 0 f
*/

/* example
query I
SELECT page_no FROM pdf_pages(fixture('document/report.pdf'), pages => '2-')
----
2
*/

/* example
query RRB
SELECT width, height, needs_ocr FROM pdf_pages(fixture('document/scan.pdf'))
----
400 200 t
*/

/* example
statement error (22P03)
SELECT * FROM pdf_pages(fixture('document/encrypted.pdf'), on_error => 'raise')
*/

/* example
statement error (22023)
SELECT * FROM pdf_pages(fixture('document/report.pdf'), layout => 'columns')
*/
