"""The run in one file of numbers (summary.json) and one page (overview.html)."""

import base64
import html
import importlib.metadata
from pathlib import Path

import jinja2
import pandas as pd

from dermaflux.caption_audit import readable
from dermaflux.closed import load
from dermaflux.cost import measured_costs, stage_totals, write_costs
from dermaflux.files import fraction, read_json, write_json, write_text
from dermaflux.planning import Rates
from dermaflux.tables import chosen_rows, read_frame

LIBRARIES = (
    "snakemake",
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "timm",
    "open_clip_torch",
    "pandas",
    "pyarrow",
    "pillow",
)


def _records(path):
    """Rows of a CSV as dicts without missing values."""
    frame = pd.read_csv(path)
    return [{k: v for k, v in row.items() if pd.notna(v)} for row in frame.astype(object).to_dict("records")]


def _totals(path):
    """The rows of a CSV that are sums over all datasets, without that column."""
    return [{k: v for k, v in row.items() if k != "dataset"} for row in _records(path) if row["dataset"] == "all"]


def copies_matrix(copies, order):
    """How many images of a dataset (row) were excluded for one of another (column): list of dicts.

    Args:
        copies: rows of the leakage report's matrix: exclude_reason, dataset, partner_dataset, images.
        order: names of all datasets.
    """
    if not copies:
        return []
    frame = pd.DataFrame(copies)
    matrix = frame.pivot_table(index="dataset", columns="partner_dataset", values="images", aggfunc="sum", fill_value=0)
    matrix = matrix.reindex(index=order, columns=order, fill_value=0).astype(int)
    matrix = matrix.loc[matrix.any(axis=1), matrix.any(axis=0)]
    return [{"excluded from": name, **row} for name, row in matrix.to_dict("index").items()]


def summarize_run(tables, lora_log, samples, caption_audit, separability, models, settings, costs):
    """Every headline number of a run, as a dict for summary.json.

    Args:
        tables: dict of CSV paths: datasets, ambiguous, thresholds, copies, arms, models, claims, confusion.
        lora_log: path of the LoRA's log.csv.
        samples: dict generator -> paths of its samples.
        caption_audit, separability: paths of the audits' JSON.
        models: dict name -> path of revision.json.
        settings: the configuration as a dict.
        costs: from cost.measured_costs.
    """
    datasets, log = pd.read_csv(tables["datasets"]), pd.read_csv(lora_log)
    claims = pd.read_csv(tables["claims"])
    last = log["loss"].tail(max(1, len(log) // 10)).mean()
    first = log["loss"].head(max(1, len(log) // 10)).mean()
    excluded = datasets.filter(regex="^excluded_").sum()
    return {
        "toy": settings["report"]["toy"],
        "corpus": {
            "datasets": len(datasets),
            "rows": int(datasets["rows"].sum()),
            "train": int(datasets["train"].sum()),
            "test": int(datasets["test"].sum()),
            "excluded": {name.removeprefix("excluded_"): int(n) for name, n in excluded.items()},
        },
        # what the labels would be under each setting of labels.ambiguous
        "ambiguous_labels": {row.pop("ambiguous_as"): row for row in _totals(tables["ambiguous"])},
        "thresholds": _totals(tables["thresholds"])[0],
        "copies": _records(tables["copies"]),
        "captions": read_json(caption_audit),
        "lora": {"steps": len(log), "loss_first_tenth": float(first), "loss_last_tenth": float(last)},
        "samples": {name: sum(len(read_frame(p, ["label"])) for p in paths) for name, paths in samples.items()},
        "separability": read_json(separability),
        "arms": _records(tables["arms"]),
        "models": _records(tables["models"]),
        "claims": {
            "verdicts": {v: int(n) for v, n in claims["verdict"].value_counts().items()},
            "rows": _records(tables["claims"]),
        },
        "revisions": {name: read_json(path)["revision"] for name, path in models.items()},
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "rules": costs,
        "stages": stage_totals(costs),
        "settings": settings,
    }


def caption_examples(images, captions, count):
    """`count` kept images with their captions, chosen by a hash of the id: list of (image bytes, caption)."""
    words = pd.concat([read_frame(path, ["image_id", "caption"]) for path in captions], ignore_index=True).dropna()
    chosen = words.loc[words["image_id"].map(lambda i: fraction("example", i)).sort_values().index[:count]]
    pictures = {row["id"]: row["image"] for row in chosen_rows(images, set(chosen["image_id"]), ["image"])}
    return [
        (pictures[i]["bytes"], caption)
        for i, caption in chosen[["image_id", "caption"]].itertuples(index=False, name=None)
    ]


def _inline(path):
    """A figure's file as HTML: SVG as it is, pictures as data."""
    if Path(path).suffix == ".svg":
        return Path(path).read_text(encoding="utf-8").split("?>", 1)[-1]
    return _picture(Path(path).read_bytes())


def _picture(data, alt=""):
    return f'<img alt="{html.escape(alt)}" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'


def _table(rows, columns=None, prefix=""):
    """Rows (dicts) as an HTML table, `prefix` left out of the headings; numbers to four digits, missing ones empty."""
    columns = columns or list(dict.fromkeys(key for row in rows for key in row))

    def cell(value):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"<td>{html.escape(str(value if value is not None else ''))}</td>"
        whole = float(value).is_integer() and abs(value) >= 1 or value == 0
        return f"<td class=n>{int(value):,}</td>" if whole else f"<td class=n>{value:.4g}</td>"

    head = "".join(f"<th>{html.escape(str(c).removeprefix(prefix).replace('_', ' '))}</th>" for c in columns)
    body = "".join("<tr>" + "".join(cell(row.get(c)) for c in columns) + "</tr>" for row in rows)
    return f"<div class=scroll><table><tr>{head}</tr>{body}</table></div>"


def with_intervals(rows):
    """Rows (dicts) with what stands in name, name_low and name_high in one cell, as words; missing values stay."""
    merged = []
    for row in rows:
        cells = {key: value for key, value in row.items() if not key.endswith(("_low", "_high"))}
        for name in row:
            if f"{name}_low" in row and row[name] is not None:
                cells[name] = f"{row[name]:.3f} ({row[f'{name}_low']:.3f} to {row[f'{name}_high']:.3f})"
        merged.append(cells)
    return merged


def write_overview(summary, tables, figures, examples, template, output):
    """Write the page that shows the whole run.

    Args:
        summary: dict of `summarize_run`.
        tables, figures: dicts of paths.
        examples: list of `caption_examples`.
        template: path of the Jinja template.
        output: path of the self-contained HTML.
    """
    page = jinja2.Template(
        Path(template).read_text(encoding="utf-8"), autoescape=False, undefined=jinja2.StrictUndefined
    )
    datasets = pd.read_csv(tables["datasets"])
    text = page.render(
        summary=summary,
        tables={name: _records(path) for name, path in tables.items()},
        figures={name: _inline(path) for name, path in figures.items()},
        audit=readable(summary["captions"]),
        examples=[(_picture(data, caption), html.escape(caption)) for data, caption in examples],
        table=_table,
        with_intervals=with_intervals,
        starting=lambda prefix: [name for name in datasets.columns if name.startswith(prefix)],
        copies=copies_matrix(_records(tables["copies"]), list(datasets["dataset"])),
    )
    write_text(output, text)


def write_report(
    images, captions, tables, figures, template, overview, summary_path, cost_path, examples, benchmarks, rules, **run
):
    """summary.json, cost.csv and overview.html.

    Args:
        benchmarks, rules: as for cost.measured_costs.
        run: the further arguments of `summarize_run`.
    """
    planned = run["settings"]["planning"]
    watts = load(Rates, planned["rates"]).gpus[planned["gpu"]].watts if run["settings"]["device"] == "cuda" else None
    costs = run["costs"] = measured_costs(benchmarks, rules, watts)
    write_costs(costs, cost_path)
    summary = summarize_run(tables=tables, **run)
    write_overview(summary, tables, figures, caption_examples(images, captions, examples), template, overview)
    write_json(summary_path, summary)
