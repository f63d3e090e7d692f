CREATE FUNCTION detections(image image, min_score real DEFAULT 0.25, iou real DEFAULT 0.45, classes text[] DEFAULT NULL, max_detections integer DEFAULT 300, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS detection[] LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'detections';

CREATE FUNCTION detections(data bytea, min_score real DEFAULT 0.25, iou real DEFAULT 0.45, classes text[] DEFAULT NULL, max_detections integer DEFAULT 300, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS detection[] LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'detections';

COMMENT ON FUNCTION detections IS 'The objects in a picture as one array, best first; each has label, class_id, score and box.
min_score: only scores above it. iou: boxes of one class that overlap more are one object. classes: only these labels.
max_detections: at most so many, the best.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.detect.
Errors: SQ001 unknown model, SQ002 a model for another task, 22023 bad option, 22P03 not an image.';

/* example
query I
SELECT array_length(detections(fixture('model/shapes.jpg'), model => 'tiny/yolo-shapes'), 1)
----
4
*/
