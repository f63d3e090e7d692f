CREATE FUNCTION box_iou(a box2d, b box2d)
RETURNS double precision LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'box_iou';

COMMENT ON FUNCTION box_iou IS 'The intersection of two boxes over their union: 1 for equal boxes, 0 for boxes that do not meet.';

/* example
query R
SELECT box_iou('(0,0),(2,2)'::box2d, '(1,0),(3,2)'::box2d) * 3
----
1
*/
