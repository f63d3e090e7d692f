CREATE FUNCTION content_hash(data bytea, algo text DEFAULT 'blake3')
RETURNS text LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'content_hash';

COMMENT ON FUNCTION content_hash IS 'The hash of bytes in lower-case hex. algo: blake3, sha256 or md5. Errors: 22023 another algo.';

/* example
query T
SELECT content_hash('abc'::bytea, algo => 'md5')
----
900150983cd24fb0d6963f7d28e17f72
*/

/* example
query T
SELECT content_hash('abc'::bytea)
----
6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85
*/

/* example
statement error (22023)
SELECT content_hash('abc'::bytea, algo => 'crc32')
*/
