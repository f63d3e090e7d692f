"""The models of the benchmark: real sizes, random weights, written without a training framework.

In: a folder. Out: model folders in the hub's layout, each a full-size one and a trivial one with the same inputs and outputs
(a stand-in for a device that costs nothing). Seeded: the same files every time. Labels and boxes are spread by setting the last
biases from the benchmark's own pictures, so that answers can be compared. MiniLM is the real one, from the model cache.
"""
import json
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


class Graph:
    """Nodes and weights of one graph, added in order."""

    def __init__(self, seed):
        self.nodes, self.weights, self.random, self.count = [], [], np.random.default_rng(seed), 0

    def name(self):
        self.count += 1
        return f"t{self.count}"

    def constant(self, value):
        name = self.name()
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind, *inputs, outputs=1, names=None, **attributes):
        names = names or [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if len(names) == 1 else names

    def conv(self, x, c_in, c_out, kernel, stride=1, act=None, gain=1.0):
        w = self.random.standard_normal((c_out, c_in, kernel, kernel)).astype(np.float32) * np.float32(gain * (2 / (c_in * kernel * kernel)) ** 0.5)
        y = self.op("Conv", x, self.constant(w), self.constant(np.zeros(c_out, np.float32)), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)
        if act == "relu":
            y = self.op("Relu", y)
        if act == "silu":
            y = self.op("Mul", y, self.op("Sigmoid", y))
        return y

    def linear(self, x, n_in, n_out, bias=True):
        y = self.op("MatMul", x, self.constant(self.random.standard_normal((n_in, n_out)).astype(np.float32) * np.float32(n_in**-0.5)))
        return self.op("Add", y, self.constant(np.zeros(n_out, np.float32))) if bias else y

    def norm(self, x, width):
        return self.op("LayerNormalization", x, self.constant(np.ones(width, np.float32)), self.constant(np.zeros(width, np.float32)), axis=-1)

    def ints(self, *values):
        return self.constant(np.array(values, np.int64))

    def save(self, path, inputs, outputs):
        graph = helper.make_graph(self.nodes, "model", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        onnx.save(model, path)


def floats(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def whole(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def write_json(folder, name, value):
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/{name}", "w") as file:
        json.dump(value, file)


# ---- pictures: a ResNet-18
CLASSES = 1000
PICTURE = {"do_resize": True, "size": {"shortest_edge": 256}, "resample": 2, "do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "do_rescale": True,
           "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "image_processor_type": "BitImageProcessor"}


def classifier(folder, bias=None):
    g = Graph(1)
    x = g.op("MaxPool", g.conv("pixel_values", 3, 64, 7, 2, "relu"), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    width = 64
    for stage, out in enumerate((64, 128, 256, 512)):
        for block in range(2):
            stride = 2 if stage and not block else 1
            y = g.conv(g.conv(x, width, out, 3, stride, "relu"), out, out, 3, gain=0.5)
            x = g.op("Relu", g.op("Add", y, x if stride == 1 and width == out else g.conv(x, width, out, 1, stride)))
            width = out
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    w = g.constant(g.random.standard_normal((512, CLASSES)).astype(np.float32))
    g.op("Gemm", x, w, g.constant(np.zeros(CLASSES, np.float32) if bias is None else bias.astype(np.float32)), names=["logits"])
    g.save(f"{folder}/onnx/model.onnx", [floats("pixel_values", "n", 3, "h", "w")], [floats("logits", "n", CLASSES)])
    describe_classifier(folder, CLASSES)


def trivial_classifier(folder):
    g = Graph(1)
    mean = g.op("Flatten", g.op("GlobalAveragePool", "pixel_values"))
    g.op("Mul", mean, g.constant(np.array([10, 10, 10], np.float32)), names=["logits"])
    g.save(f"{folder}/onnx/model.onnx", [floats("pixel_values", "n", 3, "h", "w")], [floats("logits", "n", 3)])
    describe_classifier(folder, 3)


def describe_classifier(folder, classes):
    write_json(folder, "config.json", {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "id2label": {str(i): f"class{i}" for i in range(classes)}})
    write_json(folder, "preprocessor_config.json", PICTURE)


# ---- frames: the nano size of a grid detector with three scales
SIDE, THINGS = 640, 80


def detector(folder, bias=-8.0, gain=1.0):
    g = Graph(2)

    def c2f(x, c_in, c_out, count, add):
        h = c_out // 2
        y = g.conv(x, c_in, c_out, 1, 1, "silu")
        parts = g.op("Split", y, axis=1, num_outputs=2, outputs=2)
        for _ in range(count):
            z = g.conv(g.conv(parts[-1], h, h, 3, 1, "silu"), h, h, 3, 1, "silu")
            parts = [*parts, g.op("Add", parts[-1], z) if add else z]
        return g.conv(g.op("Concat", *parts, axis=1), h * (2 + count), c_out, 1, 1, "silu")

    def up(x):
        return g.op("Resize", x, "", g.constant(np.array([1, 1, 2, 2], np.float32)), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")

    def join(*xs):
        return g.op("Concat", *xs, axis=1)

    x = c2f(g.conv(g.conv("images", 3, 16, 3, 2, "silu"), 16, 32, 3, 2, "silu"), 32, 32, 1, True)
    p3 = c2f(g.conv(x, 32, 64, 3, 2, "silu"), 64, 64, 2, True)
    p4 = c2f(g.conv(p3, 64, 128, 3, 2, "silu"), 128, 128, 2, True)
    x = c2f(g.conv(p4, 128, 256, 3, 2, "silu"), 256, 256, 1, True)
    a = g.conv(x, 256, 128, 1, 1, "silu")
    pools = [a]
    for _ in range(3):
        pools.append(g.op("MaxPool", pools[-1], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4))
    p5 = g.conv(join(*pools), 512, 256, 1, 1, "silu")
    n4 = c2f(join(up(p5), p4), 384, 128, 1, False)
    n3 = c2f(join(up(n4), p3), 192, 64, 1, False)
    m4 = c2f(join(g.conv(n3, 64, 64, 3, 2, "silu"), n4), 192, 128, 1, False)
    m5 = c2f(join(g.conv(m4, 128, 128, 3, 2, "silu"), p5), 384, 256, 1, False)
    boxes, scores, centres, strides = [], [], [], []
    for x, width, stride in ((n3, 64, 8), (m4, 128, 16), (m5, 256, 32)):
        side = SIDE // stride
        b = g.conv(g.conv(g.conv(x, width, 64, 3, 1, "silu"), 64, 64, 3, 1, "silu"), 64, 64, 1)
        c = g.conv(g.conv(g.conv(x, width, 80, 3, 1, "silu"), 80, 80, 3, 1, "silu"), 80, THINGS, 1)
        boxes.append(g.op("Reshape", b, g.ints(0, 64, side * side)))
        scores.append(g.op("Reshape", c, g.ints(0, THINGS, side * side)))
        at = (np.arange(side, dtype=np.float32) + 0.5) * stride
        centres.append(np.stack([np.tile(at, side), np.repeat(at, side)]))
        strides.append(np.full((1, side * side), stride, np.float32))
    count = sum(c.shape[1] for c in centres)
    b = g.op("Softmax", g.op("Reshape", join3(g, boxes), g.ints(0, 4, 16, count)), axis=2)
    b = g.op("ReduceSum", g.op("Mul", b, g.constant(np.arange(16, dtype=np.float32).reshape(1, 1, 16, 1))), g.ints(2), keepdims=0)
    b = g.op("Mul", b, g.constant(np.concatenate(strides, 1)[None]))
    before, after = g.op("Split", b, axis=1, num_outputs=2, outputs=2)
    middle = g.constant(np.concatenate(centres, 1)[None])
    half = g.constant(np.array(0.5, np.float32))
    centre = g.op("Add", middle, g.op("Mul", g.op("Sub", after, before), half))
    score = g.op("Sigmoid", g.op("Add", g.op("Mul", join3(g, scores), g.constant(np.array(gain, np.float32))), g.constant(np.array(bias, np.float32))))
    g.op("Concat", centre, g.op("Add", before, after), score, axis=1, names=["output0"])
    g.save(f"{folder}/onnx/model.onnx", [floats("images", "n", 3, SIDE, SIDE)], [floats("output0", "n", 4 + THINGS, count)])
    describe_detector(folder)


def join3(g, xs):
    return g.op("Concat", *xs, axis=2)


def trivial_detector(folder):
    g = Graph(2)
    mean = g.op("Slice", g.op("Flatten", g.op("GlobalAveragePool", "images")), g.ints(0), g.ints(1), g.ints(1))
    mean = g.op("Reshape", mean, g.ints(-1, 1, 1))
    row = np.zeros((1, 4 + THINGS, 8), np.float32)
    row[0, :4] = np.array([[84 + 60 * i, 104, 128, 128] for i in range(8)], np.float32).T
    row[0, 4, ::3] = [0.5, 0.45, 0.4]
    gain = np.zeros((1, 4 + THINGS, 8), np.float32)
    gain[0, 4, ::3] = 0.1
    g.op("Add", g.constant(row), g.op("Mul", mean, g.constant(gain)), names=["output0"])
    g.save(f"{folder}/onnx/model.onnx", [floats("images", "n", 3, SIDE, SIDE)], [floats("output0", "n", 4 + THINGS, 8)])
    describe_detector(folder)


def describe_detector(folder):
    write_json(folder, "config.json", {"model_type": "yolo", "task": "detect", "id2label": {str(i): f"thing{i}" for i in range(THINGS)}})
    write_json(folder, "preprocessor_config.json", {"do_resize": True, "letterbox": True, "pad_value": 114, "size": {"height": SIDE, "width": SIDE}, "do_rescale": True,
                                                    "rescale_factor": 1 / 255, "do_normalize": False, "resample": 2, "image_processor_type": "YoloLetterBox"})


# ---- speech: the tiny size of an encoder-decoder with a key/value cache
WIDTH, HEADS, FORWARD, LAYERS, VOCABULARY = 384, 6, 1536, 4, 51865
START, LANGUAGE, TASK, NO_TIMES, END, TIMES = 50258, 50259, 50359, 50363, 50257, 50364
TOKENS = 32


def heads(g, x, length):
    return g.op("Transpose", g.op("Reshape", x, g.ints(0, length, HEADS, WIDTH // HEADS)), perm=[0, 2, 1, 3])


def attention(g, q, k, v, mask=None):
    scores = g.op("Mul", g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2])), g.constant(np.array((WIDTH // HEADS) ** -0.5, np.float32)))
    if mask:
        scores = g.op("Add", scores, mask)
    y = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return g.linear(g.op("Reshape", y, g.ints(0, -1, WIDTH)), WIDTH, WIDTH)


def forward(g, x):
    return g.linear(g.op("Gelu", g.linear(g.norm(x, WIDTH), WIDTH, FORWARD)), FORWARD, WIDTH)


def conv1d(g, x, c_in, stride):
    w = g.random.standard_normal((WIDTH, c_in, 3)).astype(np.float32) * np.float32((2 / (3 * c_in)) ** 0.5)
    return g.op("Gelu", g.op("Conv", x, g.constant(w), g.constant(np.zeros(WIDTH, np.float32)), kernel_shape=[3], strides=[stride], pads=[1, 1]))


def encoder(path):
    g = Graph(3)
    x = conv1d(g, conv1d(g, "input_features", 80, 1), WIDTH, 2)
    position = g.random.standard_normal((1500, WIDTH)).astype(np.float32) * np.float32(0.1)
    x = g.op("Add", g.op("Transpose", x, perm=[0, 2, 1]), g.constant(position))
    for _ in range(LAYERS):
        y = g.norm(x, WIDTH)
        q, k, v = (heads(g, g.linear(y, WIDTH, WIDTH), 1500) for _ in range(3))
        x = g.op("Add", x, attention(g, q, k, v))
        x = g.op("Add", x, forward(g, x))
    g.op("LayerNormalization", x, g.constant(np.ones(WIDTH, np.float32)), g.constant(np.zeros(WIDTH, np.float32)), axis=-1, names=["last_hidden_state"])
    g.save(path, [floats("input_features", "n", 80, 3000)], [floats("last_hidden_state", "n", 1500, WIDTH)])


def cache_names(layers):
    return [f"{layer}.{side}.{part}" for layer in range(layers) for side in ("decoder", "encoder") for part in ("key", "value")]


def chosen(g, kept, made):
    """`kept` where the cache is in use, else what the nodes of `made` compute."""
    inner, outer = Graph(0), g.nodes
    inner.count, inner.weights, inner.random = g.count + 1000, g.weights, g.random
    result = made(inner)
    g.count = inner.count + 1
    info = [helper.make_empty_tensor_value_info(result)]
    other = g.name()
    then = helper.make_graph([helper.make_node("Identity", [kept], [other])], "kept", [], [helper.make_empty_tensor_value_info(other)])
    g.nodes = outer
    return g.op("If", "cached", then_branch=then, else_branch=helper.make_graph(inner.nodes, "made", [], info))


def given(g, side, output):
    """The side once, an empty tensor where the cache is in use, as exporters of merged decoders do."""
    empty, whole = g.name(), g.name()
    value = helper.make_tensor(empty + "v", TensorProto.FLOAT, [0, HEADS, 1, WIDTH // HEADS], [])
    then = helper.make_graph([helper.make_node("Constant", [], [empty], value=value)], "none", [], [helper.make_empty_tensor_value_info(empty)])
    other = helper.make_graph([helper.make_node("Identity", [side], [whole])], "whole", [], [helper.make_empty_tensor_value_info(whole)])
    g.op("If", "cached", names=[output], then_branch=then, else_branch=other)


def decoder(path):
    g = Graph(4)
    g.op("Reshape", "use_cache_branch", g.ints(), names=["cached"])
    size = g.op("Shape", "input_ids")
    length = g.op("Slice", size, g.ints(1), g.ints(2))
    past = g.op("Slice", g.op("Shape", "past_key_values.0.decoder.key"), g.ints(2), g.ints(3))
    total = g.op("Add", past, length)
    one, zero = g.constant(np.array(1, np.int64)), g.constant(np.array(0, np.int64))
    columns = g.op("Range", zero, g.op("Squeeze", total), one)
    rows = g.op("Range", g.op("Squeeze", past), g.op("Squeeze", total), one)
    later = g.op("Greater", g.op("Unsqueeze", columns, g.ints(0)), g.op("Unsqueeze", rows, g.ints(1)))
    mask = g.op("Mul", g.op("Cast", later, to=TensorProto.FLOAT), g.constant(np.array(-1e9, np.float32)))
    table = g.constant(g.random.standard_normal((VOCABULARY, WIDTH)).astype(np.float32) * np.float32(0.05))
    position = g.constant(g.random.standard_normal((448, WIDTH)).astype(np.float32) * np.float32(0.3))
    x = g.op("Add", g.op("Gather", table, "input_ids"), g.op("Gather", position, rows))
    for layer in range(LAYERS):
        y = g.norm(x, WIDTH)
        q, k, v = (heads(g, g.linear(y, WIDTH, WIDTH), -1) for _ in range(3))
        k = g.op("Concat", f"past_key_values.{layer}.decoder.key", k, axis=2, names=[f"present.{layer}.decoder.key"])
        v = g.op("Concat", f"past_key_values.{layer}.decoder.value", v, axis=2, names=[f"present.{layer}.decoder.value"])
        x = g.op("Add", x, attention(g, q, k, v, mask))
        q = heads(g, g.linear(g.norm(x, WIDTH), WIDTH, WIDTH), -1)
        sides = []
        for part in ("key", "value"):
            kept = f"past_key_values.{layer}.encoder.{part}"
            side = chosen(g, kept, lambda h: heads(h, h.linear("encoder_hidden_states", WIDTH, WIDTH), -1))
            given(g, side, f"present.{layer}.encoder.{part}")
            sides.append(side)
        x = g.op("Add", x, attention(g, q, *sides))
        x = g.op("Add", x, forward(g, x))
    g.op("MatMul", g.norm(x, WIDTH), g.op("Transpose", table, perm=[1, 0]), names=["logits"])
    part = WIDTH // HEADS
    inputs = [whole("input_ids", "n", "t"), floats("encoder_hidden_states", "n", "s", WIDTH)]
    inputs += [floats(f"past_key_values.{name}", "n", HEADS, f"p{i}", part) for i, name in enumerate(cache_names(LAYERS))]
    inputs += [helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])]
    outputs = [floats("logits", "n", "t", VOCABULARY)] + [floats(f"present.{name}", "n", HEADS, f"q{i}", part) for i, name in enumerate(cache_names(LAYERS))]
    g.save(path, inputs, outputs)


def speech(folder):
    encoder(f"{folder}/onnx/encoder_model.onnx")
    decoder(f"{folder}/onnx/decoder_model_merged.onnx")
    describe_speech(folder, LAYERS, WIDTH, HEADS)


def trivial_speech(folder):
    """One word that depends on the loudness of the window, then the end."""
    g = Graph(3)
    mean = g.op("ReduceMean", "input_features", g.ints(1), keepdims=0)
    mean = g.op("Slice", g.op("Unsqueeze", mean, g.ints(2)), g.ints(0), g.ints(3000), g.ints(1), g.ints(2))
    g.op("Identity", mean, names=["last_hidden_state"])
    g.save(f"{folder}/onnx/encoder_model.onnx", [floats("input_features", "n", 80, 3000)], [floats("last_hidden_state", "n", 1500, 1)])
    g = Graph(4)
    loud = g.op("ReduceMean", "encoder_hidden_states", g.ints(1, 2), keepdims=1)
    word = g.op("Floor", g.op("Mul", g.op("Add", loud, g.constant(np.array(2, np.float32))), g.constant(np.array(200, np.float32))))
    last = g.op("Unsqueeze", g.op("Equal", "input_ids", g.constant(np.array(NO_TIMES, np.int64))), g.ints(2))
    wanted = g.op("Where", last, word, g.constant(np.array(END, np.float32)))
    away = g.op("Abs", g.op("Sub", g.constant(np.arange(VOCABULARY, dtype=np.float32).reshape(1, 1, -1)), wanted))
    g.op("Neg", away, names=["logits"])
    names = cache_names(1)
    for name in names:
        g.op("Identity", f"past_key_values.{name}", names=[f"present.{name}"])
    inputs = [whole("input_ids", "n", "t"), floats("encoder_hidden_states", "n", "s", 1)] + [floats(f"past_key_values.{name}", "n", 1, f"p{i}", 1) for i, name in enumerate(names)]
    inputs += [helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])]
    g.save(f"{folder}/onnx/decoder_model_merged.onnx", inputs, [floats("logits", "n", "t", VOCABULARY)] + [floats(f"present.{name}", "n", 1, f"q{i}", 1) for i, name in enumerate(names)])
    describe_speech(folder, 1, 1, 1)


def describe_speech(folder, layers, width, count):
    words = {f"w{i}": i for i in range(END)}
    special = {"<|endoftext|>": END, "<|startoftranscript|>": START, "<|en|>": LANGUAGE, "<|translate|>": TASK - 1, "<|transcribe|>": TASK, "<|nospeech|>": 50362, "<|notimestamps|>": NO_TIMES}
    special |= {f"<|{i * 0.02:.2f}|>": TIMES + i for i in range(1501)}
    special |= {f"<|extra{i}|>": i for i in range(END, VOCABULARY) if i not in special.values()}
    tokens = [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for t, i in sorted(special.items(), key=lambda p: p[1])]
    write_json(folder, "tokenizer.json", {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
                                          "post_processor": None, "decoder": None, "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"}})
    write_json(folder, "config.json", {"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "d_model": width, "decoder_attention_heads": count, "decoder_layers": layers, "num_mel_bins": 80})
    # The full-size one always says TOKENS words: its end mark is forbidden, so that every engine does equal work.
    forbidden = list(range(END, VOCABULARY)) if width > 1 else list(range(END + 1, VOCABULARY))
    write_json(folder, "generation_config.json", {"decoder_start_token_id": START, "eos_token_id": END, "no_timestamps_token_id": NO_TIMES, "lang_to_id": {"<|en|>": LANGUAGE},
                                                  "task_to_id": {"transcribe": TASK, "translate": TASK - 1}, "suppress_tokens": forbidden, "begin_suppress_tokens": [], "max_length": 2 * TOKENS})
    write_json(folder, "preprocessor_config.json", {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "hop_length": 160, "n_fft": 400, "chunk_length": 30, "n_samples": 480000, "sampling_rate": 16000})


# ---- texts: the real MiniLM, and a trivial one with its tokenizer
def texts(folder, minilm):
    for name in ("model", "trivial"):
        target = f"{folder}/{name}/document"
        os.makedirs(target + "/onnx", exist_ok=True)
        for entry in ("tokenizer.json", "tokenizer_config.json", "config.json", "sentence_bert_config.json", "special_tokens_map.json", "1_Pooling"):
            if not os.path.lexists(f"{target}/{entry}") and os.path.exists(f"{minilm}/{entry}"):
                os.symlink(os.path.realpath(f"{minilm}/{entry}"), f"{target}/{entry}")
    if not os.path.lexists(f"{folder}/model/document/onnx/model.onnx"):
        os.symlink(os.path.realpath(f"{minilm}/onnx/model.onnx"), f"{folder}/model/document/onnx/model.onnx")
    g = Graph(5)
    used = g.op("Cast", g.op("Mul", "input_ids", "attention_mask"), to=TensorProto.FLOAT)
    total = g.op("ReduceSum", used, g.ints(1), keepdims=1)
    g.op("Sin", g.op("Mul", total, g.constant((np.arange(1, 385, dtype=np.float32) * np.float32(1e-5)).reshape(1, -1))), names=["sentence_embedding"])
    g.save(f"{folder}/trivial/document/onnx/model.onnx", [whole("input_ids", "n", "t"), whole("attention_mask", "n", "t")], [floats("sentence_embedding", "n", 384)])
