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


# px; what other values of `prepare.min_side` would have kept
THRESHOLDS = (0, 64, 96, 112, 128, 160, 192, 224, 256, 384, 512)


def compare_datasets(datasets, paper, output, labels, thresholds):
    """Table 1, rebuilt, beside what the paper implies: what each dataset gave and what became of it.

    Args:
        datasets: list of dicts: name, title, modality, licence, images (the descriptor's count), labels (its mapping of
            diagnoses), index (path), shards (paths of its images), manifest (path).
        paper: CSV of what the paper implies: dataset, images, benign, malignant, how_sure.
        output: CSV to write, a row a dataset.
        labels: CSV to write: benign, malignant and excluded rows under each setting of `labels.ambiguous`.
        thresholds: CSV to write: readable images that each of THRESHOLDS would keep, a row a dataset.
    """
    implied = pd.read_csv(paper).add_prefix("paper_").set_index("paper_dataset")
    tables, settings, kept = [], [], []
    for facts in datasets:
        index = read_frame(facts["index"], ["diagnosis", "label", "lesion_id", "patient_id", "drop_reason"])
        sizes = read_frame(facts["shards"], ["source_width", "source_height"]).dropna()
        sides = np.minimum(sizes["source_width"], sizes["source_height"])
        beside = implied.loc[facts["name"]].to_dict() if facts["name"] in implied.index else {}
        tables.append({**_dataset_row(facts, index, sides, read_frame(facts["manifest"])), **beside})
        settings += _label_rows(facts, index)
        kept.append({"dataset": facts["name"], **{f"from_{px}_px": int((sides >= px).sum()) for px in THRESHOLDS}})
    frame = pd.DataFrame(tables)
    counts = [name for name in frame.columns if name.startswith(("scale_", "excluded_"))]
    frame[counts] = frame[counts].fillna(0).astype(int)
    paper_columns = [name for name in frame.columns if name.startswith("paper_")]
    write_csv(output, frame[[name for name in frame.columns if name not in paper_columns] + paper_columns])
    write_csv(labels, _with_total(pd.DataFrame(settings), ["ambiguous_as"]))
    write_csv(thresholds, _with_total(pd.DataFrame(kept), []))


def _dataset_row(facts, index, sides, manifest):
    uses = manifest["use"].value_counts()
    used = manifest[manifest["use"] != "excluded"]
    return {
        "dataset": facts["name"],
        "title": facts["title"],
        "modality": facts["modality"],
        "licence": facts["licence"],
        "expected": facts["images"],
        "rows": len(index),
        **{label: int((index["label"] == label).sum()) for label in LABELS},
        "unlabelled": int(index["label"].isna().sum()),
        "patients": int(index["patient_id"].nunique()),
        "lesions": int(index["lesion_id"].nunique()),
        **{use: int(uses.get(use, 0)) for use in ("train", "test", "excluded")},
        "smallest_side": int(sides.min()) if len(sides) else None,
        "median_side": int(sides.median()) if len(sides) else None,
        "largest_side": int(sides.max()) if len(sides) else None,
        **{f"scale_{scale}": n for scale, n in used["scale"].astype(int).value_counts().sort_index().items()},
        **{f"excluded_{reason}": n for reason, n in manifest["exclude_reason"].value_counts().items()},
    }


def _label_rows(facts, index):
    """Rows with an image, by label, under each setting of `labels.ambiguous`: a dict a setting."""
    there = index["drop_reason"].isna() | index["drop_reason"].isin(["ambiguous_label", "no_label"])
    meanings = index.loc[there, "diagnosis"].map(facts["labels"])
    return [
        {
            "dataset": facts["name"],
            "ambiguous_as": setting,
            **{
                label: int(meanings.isin([label, *(["ambiguous"] if setting == label else [])]).sum())
                for label in LABELS
            },
            "excluded_as_ambiguous": int((meanings == "ambiguous").sum()) if setting == "exclude" else 0,
        }
        for setting in ("exclude", "benign", "malignant")
    ]


def _with_total(frame, groups):
    """`frame` with the sums of its numbers below it, for each of `groups`."""
    numbers = frame.select_dtypes("number").columns
    if groups:
        total = frame.groupby(groups, sort=False)[numbers].sum().reset_index()
    else:
        total = frame[numbers].sum().to_frame().T
    return pd.concat([frame, total.assign(dataset="all")], ignore_index=True)[frame.columns]


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
