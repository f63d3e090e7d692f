#!/usr/bin/env python3
"""Checkpoint of train_whisper.py -> hub-style directory in the optimum layout: onnx/encoder_model.onnx,
onnx/decoder_model.onnx (kept out of the hub), onnx/decoder_model_merged.onnx (If on use_cache_branch) and all JSON files."""
import argparse, hashlib, json, os, sys
import numpy as np, onnx, torch, torch.nn as nn
from onnx import helper, TensorProto
sys.path.insert(0, os.path.dirname(__file__)); from train_whisper import sinusoids, make_tokenizer, LANGS
from transformers import WhisperConfig, WhisperForConditionalGeneration

class Enc(nn.Module):
    def __init__(s, m): super().__init__(); s.m = m
    def forward(s, input_features): return s.m.model.encoder(input_features).last_hidden_state

class Dec(nn.Module):
    """The decoder spelled out with explicit key/value tensors (pre-norm blocks, learned positions, tied output head)."""
    def __init__(s, m, past): super().__init__(); s.d = m.model.decoder; s.w = m.proj_out; s.h = m.config.decoder_attention_heads; s.past = past
    def split(s, x): return x.view(x.shape[0], -1, s.h, x.shape[-1] // s.h).transpose(1, 2)
    def mix(s, a, q, k, v, mask=None):
        sc = s.split(a.q_proj(q) * (q.shape[-1] // s.h) ** -0.5) @ k.transpose(2, 3)
        if mask is not None: sc = sc + mask
        o = torch.softmax(sc, -1) @ v
        return a.out_proj(o.transpose(1, 2).reshape(q.shape[0], -1, q.shape[-1]))
    def forward(s, input_ids, enc, *kv):
        n = input_ids.shape[1]; p = kv[0].shape[2] if s.past else 0
        x = s.d.embed_tokens(input_ids) + s.d.embed_positions.weight[p:p + n]
        i = torch.arange(p, p + n)[:, None]; j = torch.arange(p + n)[None]; mask = torch.where(j <= i, 0.0, -1e9); out = []
        for l, L in enumerate(s.d.layers):
            y = L.self_attn_layer_norm(x); k, v = s.split(L.self_attn.k_proj(y)), s.split(L.self_attn.v_proj(y))
            if s.past: k, v = torch.cat([kv[4 * l], k], 2), torch.cat([kv[4 * l + 1], v], 2)
            x = x + s.mix(L.self_attn, y, k, v, mask); y = L.encoder_attn_layer_norm(x)
            ek, ev = (kv[4 * l + 2], kv[4 * l + 3]) if s.past else (s.split(L.encoder_attn.k_proj(enc)), s.split(L.encoder_attn.v_proj(enc)))
            x = x + s.mix(L.encoder_attn, y, ek, ev); y = L.final_layer_norm(x); x = x + L.fc2(nn.functional.gelu(L.fc1(y)))
            out += [k, v] + ([] if s.past else [ek, ev])
        return (s.w(s.d.layer_norm(x)), *out)

def merge(nopast, past, path, nl, heads, hd, d, V):
    """one graph: inputs of both + use_cache_branch; shared initializers stored once; branches are subgraphs of an If"""
    pool, keep = {}, []
    def graph(m, tag, extra):
        g = m.graph; outer = {i.name for i in g.input}; ren = {}
        for t in g.initializer:
            key = hashlib.sha1(t.SerializeToString(deterministic=True).replace(t.name.encode(), b"")).hexdigest() if False else (tuple(t.dims), t.data_type, hashlib.sha1(onnx.numpy_helper.to_array(t).tobytes()).hexdigest())
            if key not in pool: c = onnx.TensorProto(); c.CopyFrom(t); c.name = f"w{len(keep)}"; pool[key] = c.name; keep.append(c)
            ren[t.name] = pool[key]
        f = lambda n: n if n == "" or n in outer else ren.setdefault(n, f"{tag}/{n}")
        nodes = []
        for nd in g.node:
            c = onnx.NodeProto(); c.CopyFrom(nd); c.name = f"{tag}/{nd.name}"; del c.input[:]; del c.output[:]; c.input.extend(map(f, nd.input)); c.output.extend(map(f, nd.output)); nodes.append(c)
        have = {o.name: o for o in g.output}; outs = []
        for name in order:
            if name in have: outs.append(helper.make_tensor_value_info(f(name), TensorProto.FLOAT, [None] * (3 if name == "logits" else 4)))
            else:   # optimum's convention: the cached branch returns an EMPTY tensor for present.*.encoder.*
                nodes.append(helper.make_node("Constant", [], [f"{tag}/{name}"], value=helper.make_tensor(name, TensorProto.FLOAT, [0, heads, 1, hd], [])))
                outs.append(helper.make_tensor_value_info(f"{tag}/{name}", TensorProto.FLOAT, [None] * 4))
        return helper.make_graph(nodes, tag, [], outs)
    kv = [f"{l}.{w}.{k}" for l in range(nl) for w in ("decoder", "encoder") for k in ("key", "value")]; order = ["logits"] + ["present." + k for k in kv]
    then, els = graph(past, "cached", None), graph(nopast, "first", None)
    ins = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "decoder_sequence_length"]),
           helper.make_tensor_value_info("encoder_hidden_states", TensorProto.FLOAT, ["batch_size", "encoder_sequence_length", d])]
    ins += [helper.make_tensor_value_info("past_key_values." + k, TensorProto.FLOAT, ["batch_size", heads, "past_decoder_sequence_length" if "decoder" in k else "encoder_sequence_length_out", hd]) for k in kv]
    ins += [helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1])]
    outs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", "decoder_sequence_length", V])]
    outs += [helper.make_tensor_value_info("present." + k, TensorProto.FLOAT, [None, heads, None, hd]) for k in kv]
    g = helper.make_graph([helper.make_node("If", ["use_cache_branch"], order, name="optimum::if", then_branch=then, else_branch=els)], "merged", ins, outs, keep)
    m = helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], producer_name="tiny-whisper"); m.ir_version = 8; onnx.checker.check_model(m); onnx.save(m, path)

def main():
    ap = argparse.ArgumentParser(); ap.add_argument("--ck", default="build/models/out/whisper"); ap.add_argument("--out", default="build/models/out/whisper_hub"); a = ap.parse_args()
    torch.set_num_threads(1); os.makedirs(a.out + "/onnx", exist_ok=True); ck = torch.load(a.ck + "/ck.pt"); c = ck["cfg"]; c["max_source_positions"] = 1500
    cfg = WhisperConfig(**{k: v for k, v in c.items() if k not in ("transformers_version", "architectures")}); m = WhisperForConditionalGeneration(cfg)
    m.load_state_dict({k: v for k, v in ck["model"].items() if "encoder.embed_positions" not in k}, strict=False)
    with torch.no_grad(): m.model.encoder.embed_positions.weight.copy_(sinusoids(1500, cfg.d_model))
    m.eval(); tok = make_tokenizer(); tid = tok.token_to_id; nl, H = cfg.decoder_layers, cfg.decoder_attention_heads; hd = cfg.d_model // H
    # ---- JSON files
    from tokenizers import processors
    S = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>", "<|endoftext|>"]
    tok.post_processor = processors.TemplateProcessing(single=f"{S[0]} {S[3]} $A:0 {S[4]}", pair=f"{S[0]} {S[3]} $A:0 $B:1 {S[4]}:1", special_tokens=[(s, tid(s)) for s in (S[0], S[3], S[4])])
    tok.save(a.out + "/tokenizer.json"); tj = json.load(open(a.out + "/tokenizer.json"))
    json.dump(tj["model"]["vocab"], open(a.out + "/vocab.json", "w"), ensure_ascii=False)
    open(a.out + "/merges.txt", "w").write("#version: 0.2\n" + "\n".join(x if isinstance(x, str) else " ".join(x) for x in tj["model"]["merges"]) + "\n")
    json.dump({t["content"]: t["id"] for t in tj["added_tokens"]}, open(a.out + "/added_tokens.json", "w"), ensure_ascii=False)
    json.dump({"tokenizer_class": "WhisperTokenizer", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "add_prefix_space": False, "model_max_length": 1024,
               "additional_special_tokens": [t["content"] for t in tj["added_tokens"] if t["special"]], "processor_class": "WhisperProcessor"}, open(a.out + "/tokenizer_config.json", "w"), ensure_ascii=False, indent=1)
    json.dump({"chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80, "hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000, "padding_side": "right",
               "padding_value": 0.0, "processor_class": "WhisperProcessor", "return_attention_mask": False, "sampling_rate": 16000}, open(a.out + "/preprocessor_config.json", "w"), indent=1)
    bad = sorted({tid(x) for x in list('"#()*+/:;<=>@[]^_`{|}~')} | {tid(x) for x in ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")})
    gen = {"begin_suppress_tokens": [tid("Ġ")], "bos_token_id": tid("<|endoftext|>"), "decoder_start_token_id": tid("<|startoftranscript|>"), "eos_token_id": tid("<|endoftext|>"), "pad_token_id": tid("<|endoftext|>"),
           "forced_decoder_ids": [[1, None], [2, tid("<|transcribe|>")]], "is_multilingual": True, "lang_to_id": {f"<|{l}|>": tid(f"<|{l}|>") for l in LANGS}, "task_to_id": {"transcribe": tid("<|transcribe|>"), "translate": tid("<|translate|>")},
           "max_initial_timestamp_index": 50, "max_length": 448, "no_timestamps_token_id": tid("<|notimestamps|>"), "prev_sot_token_id": tid("<|startofprev|>"), "return_timestamps": False, "suppress_tokens": bad}
    json.dump(gen, open(a.out + "/generation_config.json", "w"), indent=1)
    cd = cfg.to_dict(); cd["architectures"] = ["WhisperForConditionalGeneration"]; cd["begin_suppress_tokens"] = gen["begin_suppress_tokens"]; cd["suppress_tokens"] = bad; cd["torch_dtype"] = "float32"
    json.dump(cd, open(a.out + "/config.json", "w"), indent=1, default=str)
    # ---- ONNX
    W = dict(dynamo=False, opset_version=17, do_constant_folding=True); f = torch.randn(2, 80, 3000)
    torch.onnx.export(Enc(m), (f,), a.out + "/onnx/encoder_model.onnx", input_names=["input_features"], output_names=["last_hidden_state"], dynamic_axes={"input_features": {0: "batch_size"}, "last_hidden_state": {0: "batch_size"}}, **W); m.eval()
    with torch.no_grad(): h = m.model.encoder(f).last_hidden_state
    ids = torch.tensor([[tid(s) for s in S[:4]]] * 2); kv = [f"{l}.{w}.{k}" for l in range(nl) for w in ("decoder", "encoder") for k in ("key", "value")]
    D0, D1 = Dec(m, False).eval(), Dec(m, True).eval(); full = D0(ids, h); tmp = a.out + "/onnx/_tmp"
    ax = {"input_ids": {0: "b", 1: "n"}, "encoder_hidden_states": {0: "b", 1: "e"}, "logits": {0: "b", 1: "n"}}
    torch.onnx.export(D0, (ids, h), tmp + "0.onnx", input_names=["input_ids", "encoder_hidden_states"], output_names=["logits"] + ["present." + k for k in kv], dynamic_axes={**ax, **{"present." + k: {0: "b", 2: "t"} for k in kv}}, **W); m.eval()
    torch.onnx.export(D1, (ids[:, :2] + 0, h, *full[1:]), tmp + "1.onnx", input_names=["input_ids", "encoder_hidden_states"] + ["past_key_values." + k for k in kv], output_names=["logits"] + ["present." + k for k in kv if "decoder" in k],
        dynamic_axes={**ax, **{"past_key_values." + k: {0: "b", 2: "p" if "decoder" in k else "e"} for k in kv}, **{"present." + k: {0: "b", 2: "t"} for k in kv if "decoder" in k}}, **W); m.eval()
    merge(onnx.load(tmp + "0.onnx"), onnx.load(tmp + "1.onnx"), a.out + "/onnx/decoder_model_merged.onnx", nl, H, hd, cfg.d_model, cfg.vocab_size); os.remove(tmp + "0.onnx"); os.remove(tmp + "1.onnx")
    # ---- parity with the library's decoder
    import onnxruntime as ort
    E = ort.InferenceSession(a.out + "/onnx/encoder_model.onnx"); D = ort.InferenceSession(a.out + "/onnx/decoder_model_merged.onnx")
    eh = E.run(None, {"input_features": f.numpy()})[0]; print("encoder diff", np.abs(eh - h.numpy()).max())
    z = {"past_key_values." + k: np.zeros((2, H, 0, hd), np.float32) for k in kv}; r = D.run(None, {"input_ids": ids.numpy(), "encoder_hidden_states": eh, "use_cache_branch": np.array([False]), **z})
    nxt = torch.tensor([[tid("Ġ") + 40], [tid("Ġ") + 41]]); seq = torch.cat([ids, nxt, nxt + 5], 1)
    with torch.no_grad(): ref = m(encoder_outputs=(h,), decoder_input_ids=seq).logits.numpy()
    print("decoder first-branch diff", np.abs(r[0] - ref[:, :4]).max()); p = dict(zip(["past_key_values." + k for k in kv], r[1:])); worst = 0
    for t in range(2):
        r = D.run(None, {"input_ids": seq[:, 4 + t:5 + t].numpy(), "encoder_hidden_states": eh, "use_cache_branch": np.array([True]), **p}); worst = max(worst, np.abs(r[0][:, 0] - ref[:, 4 + t]).max())
        for k, v in zip(kv, r[1:]):
            if "decoder" in k: p["past_key_values." + k] = v
    print("decoder cached-branch diff", worst, "| sizes", {x: os.path.getsize(a.out + "/onnx/" + x) for x in os.listdir(a.out + "/onnx")})
    m.save_pretrained(a.ck + "/hf")
if __name__ == "__main__": main()
