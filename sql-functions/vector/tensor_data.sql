CREATE FUNCTION tensor_data(t tensor)
RETURNS real[] LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'tensor_data';

COMMENT ON FUNCTION tensor_data IS 'The values of a tensor, the last dimension fastest.';

/* example
query T
SELECT tensor_data('{"shape":[2,2],"dtype":"f32","data":[1,2,3.5,4]}'::tensor)
----
{1,2,3.5,4}
*/
