#!/usr/bin/env python3
"""Loads folders that `equisweep export-hf RUN DIR --with-logits` wrote with HuggingFace transformers and compares.

    python scripts/check_hf.py DIR...

For each folder: the logits of transformers (fp32) for the tokens of io.safetensors against those that equisweep recorded
there (fp64), the loss, and, where there is a tokenizer, what it makes of the text of the first window. Exit code 1 if
logits differ by more than 1e-5 of the largest one, the loss by more than 1e-6 of itself, or a token. Needs torch,
transformers and safetensors from PyPI; without them it says so and exits 0, as nothing was found to be wrong.
"""

import argparse
import json
import os
import struct
import sys

LOGITS, LOSS = 1e-5, 1e-6


def metadata(path):
    """The texts of "__metadata__" of a safetensors file."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length)).get("__metadata__", {})


def check(folder, torch, transformers, load_file):
    io_path = os.path.join(folder, "io.safetensors")
    if not os.path.exists(io_path):
        print(f"{folder}: no io.safetensors; export with --with-logits")
        return False
    io = load_file(io_path)
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    bad = [f"{what}: {sorted(info[what])}" for what in ("missing_keys", "unexpected_keys", "mismatched_keys") if info[what]]
    model.eval()
    with torch.no_grad():
        logits = model(input_ids=io["input_ids"], use_cache=False).logits.double()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), io["labels"].flatten())
    logits_error = ((logits - io["logits"]).abs().max() / io["logits"].abs().max()).item()
    loss_error = ((loss - io["loss"]).abs() / io["loss"].abs()).item()
    if not logits_error <= LOGITS:
        bad.append("logits")
    if not loss_error <= LOSS:
        bad.append("loss")
    tokenizer_note = "no tokenizer"
    if os.path.exists(os.path.join(folder, "tokenizer.json")) and "text_ids" in io:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        text, ours = metadata(io_path)["text"], io["text_ids"].tolist()
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        same = theirs == ours and tokenizer.decode(theirs) == text
        tokenizer_note = f"tokenizer {'agrees' if same else 'DIFFERS'} on {len(ours)} tokens"
        if not same:
            bad.append("tokenizer")
    print(
        f"{folder}: {type(model).__name__}, logits {logits_error:.1e} (bound {LOGITS:.0e}), "
        f"loss {loss_error:.1e} (bound {LOSS:.0e}), {tokenizer_note}: {'FAIL: ' + '; '.join(bad) if bad else 'ok'}"
    )
    return not bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="+")
    folders = parser.parse_args().folder
    try:
        import torch
        import transformers
        from safetensors.torch import load_file
    except ImportError as error:
        print(f"skipped: {error}; pip install torch transformers safetensors")
        return 0
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    results = [check(folder, torch, transformers, load_file) for folder in folders]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
