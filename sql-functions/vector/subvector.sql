CREATE FUNCTION subvector(v vector, start integer, count integer)
RETURNS vector LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'subvector';

COMMENT ON FUNCTION subvector IS 'Some values of a vector: count of them from position start, which counts from 1. Positions outside the vector are left out. Errors: 22023 when nothing is left.';

/* example
query T
SELECT subvector('[1,2,3,4,5]'::vector, 2, 3)
----
[2,3,4]
*/

/* example
statement error (22023)
SELECT subvector('[1,2,3]'::vector, 4, 1)
*/
