CREATE FUNCTION pdf_text(data bytea, on_error text DEFAULT NULL)
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'pdf_text';

COMMENT ON FUNCTION pdf_text IS 'The text of all pages of a PDF document, a form feed between two pages. Pages that cannot be read are left out.
Errors: 22P03 not a PDF or a password needed, 54000 above squilla.max_pdf_pages or squilla.max_file_bytes.';

/* example
query T
SELECT split_part(pdf_text(fixture('document/report.pdf')), E'\n', 1)
----
Quarterly report
*/

/* example
query T
SELECT pdf_text('hello'::bytea, on_error => 'null')
----
NULL
*/

/* example
statement error (22P03)
SELECT pdf_text(fixture('document/encrypted.pdf'), on_error => 'raise')
*/
