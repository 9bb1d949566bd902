"""BLEU and sizes of a trained model's weights in 32, 16 and 8 bits: python -m benchmarks.bits MODEL SOURCE TARGET

    [--out FOLDER]      where its rows are added to bits.json; by default the results of this machine
    [--threads N]

MODEL is a folder that ``s2s train`` wrote, SOURCE and TARGET are parallel files. docs/decoding.md shows the rows.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from .report import ROOT, Report, slug

SUITE = "bits"
DTYPES = ("float32", "bfloat16", "int8")
SEARCHES = {"greedy": {"beam": 1}, "beam 5": {"beam": 5, "length_penalty": 1.0}}


def prepared(folder, dtype):
    """(a Translator, the options of its searches) in a dtype."""
    import s2s

    translator = s2s.load(folder)
    if dtype == "bfloat16":
        translator.model.bfloat16()
    return translator, {"quantize": "int8"} if dtype == "int8" else {}


def bytes_on_disk(folder, translator, dtype):
    """Of the weights, as ``s2s train`` and ``s2s quantize`` write them, or would."""
    from s2s.commands.quantize import quantize
    from s2s.model.checkpoint import WEIGHTS, serialise

    if dtype != "int8":
        return len(serialise(translator.model.state_dict()))
    with tempfile.TemporaryDirectory() as out:
        quantize(folder, Path(out) / "model")
        return (Path(out) / "model" / WEIGHTS).stat().st_size


def bytes_in_memory(translator, dtype):
    """(of all weights that are held, of the matrices that a search multiplies with)."""
    from s2s.search.fused_search import decoder_weights
    from s2s.search.int8 import matrices, packed_weights
    from s2s.text.vocab import EOS
    from s2s_kernels.quantize import named_matrices

    model = translator.model
    with torch.no_grad():
        keys = model.encode(torch.tensor([[EOS]]), torch.tensor([1]))[0].keys
        weights = decoder_weights(model, keys)
    held = {x.data_ptr(): x.nbytes for x in model.state_dict().values()}
    if dtype != "int8":
        return sum(held.values()), sum(x.nbytes for x in named_matrices(**matrices(weights)).values())
    read = sum(x.nbytes for x in packed_weights(model, weights).packed())
    return sum(held.values()) + read, read


def rows_of(folder, files):
    """A row for each dtype and search."""
    from s2s.report.evaluate import score
    from s2s.text.cleaning import target_text
    from s2s.text.pairs import read_pairs

    rows = []
    for dtype in DTYPES:
        translator, options = prepared(folder, dtype)
        pairs = read_pairs(files, lambda text: None, **translator.config.reading)
        references = [target_text(target, translator.config) for _, target in pairs]
        for name, search in SEARCHES.items():
            outputs = translator.translate([source for source, _ in pairs], **search, **options)
            found = score(outputs, references)
            held, read = bytes_in_memory(translator, dtype)
            rows.append(
                {
                    "data": " ".join(file.name for file in files),
                    "search": name,
                    "dtype": dtype,
                    "bleu": found.bleu,
                    "chrf": found.chrf,
                    "bleu_signature": found.bleu_signature,
                    "count": found.count,
                    "disk": bytes_on_disk(folder, translator, dtype),
                    "held": held,
                    "read": read,
                }
            )
            print(f"{dtype} {name}: BLEU {found.bleu:.2f}", flush=True)
    return rows


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bits", description=__doc__.partition(":")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    try:
        from s2s.errors import S2SError
    except ImportError:
        sys.exit("s2s, the model layer, is not installed: pip install '.[s2s]', or PYTHONPATH=python in a checkout.")
    found = Report(SUITE, options.threads)  # of the commit that is there now
    try:
        rows = rows_of(options.model, [options.source, options.target])
    except S2SError as error:
        sys.exit(f"bits: {error}")
    out = options.out or ROOT / "benchmarks" / "results" / slug(found.data["machine"], SUITE)
    if (out / f"{SUITE}.json").exists():
        data = rows[0]["data"]
        found.rows.extend(row for row in Report.load(out / f"{SUITE}.json").rows if row["data"] != data)
    found.rows.extend(rows)
    found.rows.sort(key=lambda row: row["data"])  # of one model as they were made
    print(f"wrote {found.save(out)}")


if __name__ == "__main__":
    main()
