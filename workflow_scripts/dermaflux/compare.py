"""The paper's tables, ours beside its figures."""

import numpy as np
import pandas as pd
import yaml

from dermaflux.metrics import difference, summarize
from dermaflux.runs import best_arm, load_runs, load_zero_shot
from dermaflux.tables import LABELS, read_frame, write_csv

# The only values that the paper's figure has an arm for.
PAPER_GENERATOR = "dermaflux"


def read_yaml(path):
    """The value in the YAML file `path`."""
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def compare_datasets(datasets, output):
    """Table 1, rebuilt: what each dataset gave and what became of it.

    Args:
        datasets: list of dicts: name, title, modality, licence, images (the descriptor's count), index (path),
            shards (paths of its images), manifest (path).
    """
    rows = []
    for facts in datasets:
        index = read_frame(facts["index"], ["label"])
        images = read_frame(facts["shards"], ["source_width", "source_height"]).dropna()
        manifest = read_frame(facts["manifest"])
        sides = np.minimum(images["source_width"], images["source_height"])
        uses = manifest["use"].value_counts()
        used = manifest[manifest["use"] != "excluded"]
        rows.append(
            {
                "dataset": facts["name"],
                "title": facts["title"],
                "modality": facts["modality"],
                "licence": facts["licence"],
                "expected": facts["images"],
                "rows": len(index),
                **{label: int((index["label"] == label).sum()) for label in LABELS},
                "unlabelled": int(index["label"].isna().sum()),
                **{use: int(uses.get(use, 0)) for use in ("train", "test", "excluded")},
                "median_side": int(sides.median()) if len(sides) else None,
                **{f"scale_{scale}": n for scale, n in used["scale"].astype(int).value_counts().sort_index().items()},
                **{f"excluded_{reason}": n for reason, n in manifest["exclude_reason"].value_counts().items()},
            }
        )
    frame = pd.DataFrame(rows)
    counts = [name for name in frame.columns if name.startswith(("scale_", "excluded_"))]
    frame[counts] = frame[counts].fillna(0).astype(int)
    write_csv(output, frame)


def compare_arms(predictions, metrics, figure, output, resamples, seed):
    """Every arm of the study: accuracy and ROC-AUC over the seeds, and what the paper's figure shows for it.

    Args:
        predictions, metrics: paths of all runs' files, in the same order.
        figure: path of the CSV read off the paper's figure 5.
        resamples, seed: of the bootstrap.
    """
    paper = pd.read_csv(figure, comment="#").set_index(["classifier", "real_images", "synthetic_per_real"])["accuracy"]
    rows = []
    for (classifier, name), runs in load_runs(predictions, metrics).items():
        arm = runs.arm
        ratio = round(arm["synthetic"] / arm["real"], 4) if arm["real"] else None
        in_paper = arm["real"] and arm["generator"] in (None, PAPER_GENERATOR)
        rows.append(
            {
                "classifier": classifier,
                "arm": name,
                "real": arm["real"],
                "generator": arm["generator"],
                "synthetic": arm["synthetic"],
                "synthetic_per_real": ratio,
                "seeds": " ".join(map(str, runs.seeds)),
                "test_images": len(runs.malignant),
                **summarize(runs.malignant, runs.scores, resamples, seed),
                "paper_accuracy": paper.get((classifier, arm["real"], ratio)) if in_paper else None,
            }
        )
    write_csv(output, pd.DataFrame(rows))


def compare_models(predictions, metrics, zero_shot, claims, output, resamples, seed):
    """The best arm of each classifier beside the zero-shot models, and the paper's ROC-AUC of each.

    Args:
        zero_shot: dict name -> path of predictions.
        claims: path of config/claims.yaml.
    """
    runs = load_runs(predictions, metrics)
    best = {name: best_arm(runs, name) for name in dict.fromkeys(classifier for classifier, _ in runs)}
    paper = read_yaml(claims)["roc_auc"]
    rows = [
        {
            "model": name,
            "trained_on": its.arm["name"] if name in best else None,
            **summarize(its.malignant, its.scores, resamples, seed),
            "paper_roc_auc": paper.get(name),
        }
        for name, its in {**best, **load_zero_shot(zero_shot)}.items()
    ]
    write_csv(output, pd.DataFrame(rows))


def _verdict(low, high):
    return "reproduced" if low > 0 else "contradicted" if high < 0 else "inconclusive"


def _pairs(claim, runs, zero_shot):
    """(classifier, better runs, worse runs) of all comparisons that a claim speaks of."""
    for classifier in dict.fromkeys(name for name, _ in runs):
        if claim["better"] == "best":
            best = best_arm(runs, classifier)
            yield from ((classifier, best, other) for other in zero_shot.values())
            continue
        for n in sorted({r.arm["real"] or r.arm["synthetic"] for r in runs.values()}):
            pair = [runs.get((classifier, claim[side].format(n=n))) for side in ("better", "than")]
            if all(pair):
                yield classifier, *pair


def compare_claims(predictions, metrics, zero_shot, claims, output, resamples, seed):
    """One row for each claim of config/claims.yaml and each comparison it speaks of, with a verdict.

    reproduced: the 95 % interval of the difference lies above 0; contradicted: below; inconclusive: it holds 0;
    not tested: the configuration has no such arms.
    """
    runs, others = load_runs(predictions, metrics), load_zero_shot(zero_shot)
    rows = []
    for claim in read_yaml(claims)["claims"]:
        told = {key: claim[key] for key in ("id", "claim", "source", "paper", "metric")}
        found = list(_pairs(claim, runs, others))
        for classifier, better, worse in found:
            gain, low, high = difference(
                better.malignant, better.scores, worse.scores, claim["metric"], resamples, seed
            )
            names = {"classifier": classifier, "better": better.arm["name"], "than": worse.arm["name"]}
            rows.append({**told, **names, "difference": gain, "low": low, "high": high, "verdict": _verdict(low, high)})
        if not found:
            rows.append({**told, "verdict": "not tested"})
    write_csv(output, pd.DataFrame(rows))
