CREATE FUNCTION predict(model text, VARIADIC inputs double precision[])
RETURNS real[] LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'predict';

COMMENT ON FUNCTION predict IS 'The first output of any ONNX graph for a row of numbers: all of them as the features of its only input, or one for each
of its inputs.
model: a registered model, org/name of the hub, a path or a URL.
Errors: SQ001 unknown model, SQ002 not a single graph, 22023 another count of numbers than the graph takes.';

/* example
query T
SELECT predict('tiny/resnet-shapes', 1, 2, 3)
----
NULL
*/

/* example
statement error (SQ001)
SELECT predict('nobody/nothing', 1, 2, 3)
*/
