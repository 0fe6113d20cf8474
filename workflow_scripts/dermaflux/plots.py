"""Figures as SVG, and sheets of pictures as JPEG."""

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

from dermaflux.files import atomic_path, fraction  # noqa: E402
from dermaflux.pictures import decode  # noqa: E402
from dermaflux.runs import best_arm, load_runs, load_zero_shot  # noqa: E402
from dermaflux.tables import LABELS, read_frame  # noqa: E402

plt.rcParams.update(
    {
        "svg.hashsalt": "dermaflux",  # the same figure, the same bytes
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "figure.constrained_layout.use": True,
    }
)


def _save(figure, path):
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    plt.close(figure)


def plot_sweep(arms, paper, output, generator):
    """Figure 5: accuracy against the synthetic images per real one, a panel a classifier, a line a number of real images.

    Args:
        arms: path of tables/arms.csv; ours, with 95 % intervals.
        paper: path of the CSV read off the paper's figure; dashed, in our line's colour where we have as many real images.
        generator: the sweep's generator.
    """
    table, published = pd.read_csv(arms), pd.read_csv(paper, comment="#")
    table = table[(table["real"] > 0) & table["generator"].isin([generator, np.nan])]
    sizes = sorted(table["real"].unique())
    colors = dict(zip(sizes, plt.cm.viridis(np.linspace(0, 0.85, len(sizes))), strict=True))
    classifiers = list(dict.fromkeys(table["classifier"]))
    figure, axes = plt.subplots(1, len(classifiers), figsize=(5.2 * len(classifiers), 4), sharey=True, squeeze=False)
    for axis, classifier in zip(axes[0], classifiers, strict=True):
        for real, line in published[published["classifier"] == classifier].groupby("real_images"):
            axis.plot(
                line["synthetic_per_real"],
                line["accuracy"],
                "--",
                color=colors.get(real, "silver"),
                linewidth=1,
                zorder=1,
            )
        for real, line in table[table["classifier"] == classifier].groupby("real"):
            line = line.sort_values("synthetic_per_real")
            spread = [line["accuracy"] - line["accuracy_low"], line["accuracy_high"] - line["accuracy"]]
            axis.errorbar(
                line["synthetic_per_real"], line["accuracy"], spread, color=colors[real], marker="o", capsize=3,
                label=f"{real:,} real",
            )  # fmt: skip
        axis.plot([], [], "--", color="silver", linewidth=1, label="the paper, 2,500 to 10,000 real")
        axis.set(title=classifier, xlabel="synthetic images per real image")
        axis.legend(frameon=False, fontsize=8)
    axes[0, 0].set_ylabel("test accuracy")
    _save(figure, output)


def plot_roc(predictions, metrics, zero_shot, output):
    """ROC curves: for each classifier its best arm and its largest real-only arm (mean over seeds), and each zero-shot model."""
    from sklearn.metrics import roc_curve

    from dermaflux.metrics import roc_auc

    runs = load_runs(predictions, metrics)
    lines = []
    for classifier in dict.fromkeys(name for name, _ in runs):
        real = [r for (name, _), r in runs.items() if name == classifier and not r.arm["synthetic"]]
        lines += [(best_arm(runs, classifier), "-")]
        lines += [(max(real, key=lambda r: r.arm["real"]), ":")] if real else []
    lines += [(runs, "--") for runs in load_zero_shot(zero_shot).values()]
    figure, axis = plt.subplots(figsize=(5.6, 5.2))
    grid = np.linspace(0, 1, 201)
    for its, style in lines:
        curves = [np.interp(grid, *roc_curve(its.malignant, s, drop_intermediate=False)[:2]) for s in its.scores]
        name = its.name if its.arm["name"] == its.name else f"{its.name}, {its.arm['name']}"
        auc = np.mean([roc_auc(its.malignant, s) for s in its.scores])
        axis.plot(np.r_[0, grid], np.r_[0, np.mean(curves, 0)], style, label=f"{name} ({auc:.3f})")
    axis.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    axis.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
    axis.legend(frameon=False, fontsize=8, loc="lower right", title="ROC-AUC in brackets")
    _save(figure, output)


def plot_loss(log, output, window=25):
    """The LoRA's training loss from its log.csv (columns step, loss): each step, and a running mean of `window` steps."""
    table = pd.read_csv(log)
    figure, axis = plt.subplots(figsize=(7, 3.5))
    axis.plot(table["step"], table["loss"], color="tab:blue", alpha=0.25, linewidth=0.8, label="each step")
    axis.plot(
        table["step"],
        table["loss"].rolling(window, min_periods=1).mean(),
        color="tab:blue",
        label=f"mean of {window} steps",
    )
    axis.set(xlabel="step", ylabel="flow-matching loss (MSE of the velocity)")
    axis.legend(frameon=False)
    _save(figure, output)


def _some(frame, count, key):
    """`count` rows of a frame with column `id`, chosen by a hash of (key, id)."""
    order = frame["id"].map(lambda id: fraction(key, id)).sort_values().index
    return frame.loc[order[:count]]


def picture_sheet(rows, output, side=128, gap=6, title_height=22):
    """A sheet of pictures with a title above each row, as JPEG.

    Args:
        rows: list of (title, list of images {bytes, path}).
    """
    columns = max([4, *(len(images) for _, images in rows)])
    sheet = Image.new("RGB", (columns * (side + gap) + gap, len(rows) * (side + title_height + gap) + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for r, (title, images) in enumerate(rows):
        top = gap + r * (side + title_height + gap)
        pen.text((gap, top), title, "black", font)
        for c, image in enumerate(images):
            sheet.paste(Image.fromarray(decode(image, side)), (gap + c * (side + gap), top + title_height))
    with atomic_path(output) as temporary:
        sheet.save(temporary, "JPEG", quality=92)


def plot_samples(manifests, shards, generators, output, count):
    """Synthetic images beside real ones: for each label a row of real training images and one for each generator.

    Args:
        manifests, shards: of the corpus.
        generators: dict name -> paths of tables.SAMPLES, or of tables.IMAGES for a released set.
        count: pictures in a row.
    """
    used = read_frame(manifests, ["image_id", "use"]).query("use == 'train'")[["image_id"]]
    real = used.merge(_captionless(shards), left_on="image_id", right_on="id")
    sources = {"real": real} | {name: _captionless(paths) for name, paths in generators.items()}
    rows = []
    for label in LABELS:
        for name, frame in sources.items():
            chosen = _some(frame[frame["label"] == label], count, "sheet")
            rows.append((f"{label}, {name}", list(chosen["image"])))
    picture_sheet(rows, output)


def _captionless(paths):
    """id, label and image of all rows that have an image."""
    frames = []
    for path in paths:
        frame = read_frame(path)
        frame = frame.rename(columns={"image_id": "id", "sample_id": "id"})[["id", "label", "image"]]
        frames.append(frame[frame["image"].map(lambda image: bool(image and image["bytes"]))])
    return pd.concat(frames, ignore_index=True)
