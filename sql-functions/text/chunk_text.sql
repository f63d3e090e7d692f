CREATE FUNCTION chunk_text(text text, chunk_size integer DEFAULT 1000, overlap integer DEFAULT NULL, by text DEFAULT 'recursive', model text DEFAULT NULL)
RETURNS TABLE(chunk_no integer, text text, start_char integer, end_char integer, token_count integer) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'chunk_text';

COMMENT ON FUNCTION chunk_text IS 'A text in chunks, in order. chunk_no counts from 1; substr(text, start_char + 1, end_char - start_char) is the chunk.
chunk_size: most characters of a chunk, or most tokens when by is tokens. overlap: most characters (tokens) that a chunk
repeats from the one before; by default 100, or a tenth of chunk_size where that is less.
by: recursive cuts at blank lines, else lines, else spaces, else anywhere, as LangChain does; markdown looks for headings,
fences and rules first; sentence keeps sentences whole; chars cuts anywhere and keeps white space; tokens cuts between words.
model: whose tokens are counted, special ones included; without one token_count is NULL, and by tokens takes the default model
for embed_text. Errors: 22023 unless 0 <= overlap < chunk_size.';

/* example
query ITII
SELECT chunk_no, text, start_char, end_char FROM chunk_text(E'First part.\n\nSecond part.', chunk_size => 15, overlap => 0)
----
1 First part. 0 11
2 Second part. 13 25
*/

/* example
query T
SELECT text FROM chunk_text('abcdefgh', chunk_size => 4, overlap => 1, by => 'chars')
----
abcd
defg
gh
*/

/* example
query T
SELECT text FROM chunk_text('Dr. Smith came. He saw. He left.', chunk_size => 16, overlap => 0, by => 'sentence')
----
Dr. Smith came.
He saw. He left.
*/

/* example
query TI
SELECT text, token_count FROM chunk_text('one two three four', chunk_size => 4, overlap => 0, by => 'tokens', model => 'sentence-transformers/all-MiniLM-L6-v2')
----
one two 4
three four 4
*/

/* example
query I
SELECT count(*) FROM chunk_text('')
----
0
*/

/* example
statement error (22023)
SELECT * FROM chunk_text('x', chunk_size => 10, overlap => 10)
*/

/* example
statement error (22023)
SELECT * FROM chunk_text('x', by => 'words')
*/
