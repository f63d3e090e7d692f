CREATE FUNCTION box_area(b box2d)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'box_area';

COMMENT ON FUNCTION box_area IS 'The area of a box in square pixels.';

/* example
query R
SELECT box_area('(1,1),(4,3)'::box2d)
----
6
*/
