CREATE FUNCTION render_page(data bytea, page_no integer, dpi integer DEFAULT 150, on_error text DEFAULT NULL)
RETURNS image LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'render_page';

COMMENT ON FUNCTION render_page IS 'A page of a PDF document as an RGB picture on white, with its annotations. page_no counts from 1; dpi: pixels per inch, 1 to 2400.
Needs the PDFium library. Errors: 22P03 not a PDF or a password needed, 22023 no such page or a dpi out of range,
54000 above squilla.max_image_pixels or squilla.max_file_bytes, 0A000 no library.';

/* example
query II
SELECT image_width(p), image_height(p) FROM (SELECT render_page(fixture('document/scan.pdf'), 1, dpi => 72) AS p) t
----
400 200
*/

/* example
statement error (22023)
SELECT render_page(fixture('document/report.pdf'), 3, on_error => 'raise')
*/

/* example
statement error (22P03)
SELECT render_page('hello'::bytea, 1, on_error => 'raise')
*/
