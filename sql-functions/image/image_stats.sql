CREATE FUNCTION image_stats(image image, on_error text DEFAULT NULL)
RETURNS TABLE(mean real[], std real[], brightness real, contrast real, sharpness real, entropy real) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_stats';

CREATE FUNCTION image_stats(data bytea, on_error text DEFAULT NULL)
RETURNS TABLE(mean real[], std real[], brightness real, contrast real, sharpness real, entropy real) LANGUAGE squilla IMMUTABLE STRICT PARALLEL SAFE AS 'image_stats';

COMMENT ON FUNCTION image_stats IS 'Numbers that tell good pictures from bad ones, one row: mean and standard deviation of each channel (0 to 255), brightness and
contrast (mean and deviation of the grey picture), sharpness (variance of its Laplacian; low where nothing is in focus) and
entropy (bits a grey value carries; low for empty pictures).
Errors: 22P03 damaged, cut or no image.';

/* example
query TRR
SELECT mean, brightness, entropy FROM image_stats(decode_image(fixture('image/four.png')))
----
{127.5,127.5,127.5} 127.5 2
*/

/* example
query B
SELECT sharpness > 100 FROM image_stats(fixture('image/scene.jpg'))
----
t
*/
