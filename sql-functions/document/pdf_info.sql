CREATE FUNCTION pdf_info(data bytea, on_error text DEFAULT NULL)
RETURNS TABLE(page_count integer, title text, author text, producer text, encrypted boolean, version text, created timestamptz) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'pdf_info';

CREATE FUNCTION pdf_info(data file, on_error text DEFAULT NULL)
RETURNS TABLE(page_count integer, title text, author text, producer text, encrypted boolean, version text, created timestamptz) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'pdf_info';

COMMENT ON FUNCTION pdf_info IS 'What a PDF document says of itself: one row, read from the cross-reference table and the trailer without any page.
page_count is NULL when the document needs a password; empty texts are NULL.
Errors: 22P03 not a PDF, 54000 above squilla.max_file_bytes.';

/* example
query ITTBT
SELECT page_count, title, author, encrypted, version FROM pdf_info(fixture('document/report.pdf'))
----
2 Quarterly report Maria Mantis f 1.3
*/

/* example
query IB
SELECT page_count, encrypted FROM pdf_info(fixture('document/encrypted.pdf'))
----
NULL t
*/

/* example
statement error (22P03)
SELECT * FROM pdf_info('hello'::bytea, on_error => 'raise')
*/
