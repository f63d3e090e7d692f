CREATE FUNCTION detect(image image, min_score real DEFAULT 0.25, iou real DEFAULT 0.45, classes text[] DEFAULT NULL, max_detections integer DEFAULT 300, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(det_no integer, label text, class_id integer, score real, "box" box2d, x1 real, y1 real, x2 real, y2 real) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'detect';

CREATE FUNCTION detect(data bytea, min_score real DEFAULT 0.25, iou real DEFAULT 0.45, classes text[] DEFAULT NULL, max_detections integer DEFAULT 300, model text DEFAULT NULL, on_error text DEFAULT NULL)
RETURNS TABLE(det_no integer, label text, class_id integer, score real, "box" box2d, x1 real, y1 real, x2 real, y2 real) LANGUAGE squilla STABLE STRICT PARALLEL SAFE AS 'detect';

COMMENT ON FUNCTION detect IS 'The objects in a picture, best first, with boxes in pixels of the picture.
min_score: only scores above it. iou: boxes of one class that overlap more are one object. classes: only these labels.
max_detections: at most so many, the best.
model: a registered model, org/name of the hub, a path or a URL; by default squilla.default_model.detect.
Errors: SQ001 unknown model, SQ002 a model for another task, 22023 bad option, 22P03 not an image.';

/* example
query IT
SELECT det_no, label FROM detect(fixture('model/shapes.jpg'), model => 'tiny/yolo-shapes')
----
1 circle
2 circle
3 circle
4 triangle
*/

/* example
query TIIII
SELECT label, round(x1), round(y1), round(x2), round(y2)
FROM detect(decode_image(fixture('model/shapes.jpg')), classes => ARRAY['triangle'], model => 'tiny/yolo-shapes')
----
triangle 20 83 58 122
*/

/* example
statement error (22023)
SELECT * FROM detect(fixture('model/shapes.jpg'), min_score => 7, model => 'tiny/yolo-shapes')
*/
