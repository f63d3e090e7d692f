CREATE FUNCTION tensor_shape(t tensor)
RETURNS integer[] LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'tensor_shape';

COMMENT ON FUNCTION tensor_shape IS 'The sizes of the dimensions of a tensor, the outermost first.';

/* example
query T
SELECT tensor_shape('{"shape":[2,3],"dtype":"f32","data":[1,2,3,4,5,6]}'::tensor)
----
{2,3}
*/
