import re

import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from conftest import ROOT, painted_rows
from dermaflux.captioner_reviews import score_reviews, write_review_sheet
from dermaflux.errors import UserError
from dermaflux.tables import CAPTIONS, IMAGES, write_table

TEMPLATE = ROOT / "report/review.html.j2"
NAMES = ("llama", "gemini", "measured")


@pytest.fixture
def sheet(tmp_path):
    """(page, key) of a review of three captioners on ten images; gemini gave up on the first."""
    write_table(tmp_path / "images.parquet", painted_rows(10, 1), IMAGES)
    for name in NAMES:
        texts = [None if name == "gemini" and i == 0 else f"No. {i} <b>{name[0]}</b>" for i in range(10)]
        rows = [{"image_id": f"d/{i}", "description": text} for i, text in enumerate(texts)]
        write_table(tmp_path / f"{name}.parquet", rows, CAPTIONS)
    captions = {name: tmp_path / f"{name}.parquet" for name in NAMES}
    write_review_sheet(
        tmp_path / "images.parquet", captions, TEMPLATE, tmp_path / "r.html", tmp_path / "review_key.csv", 0
    )
    return (tmp_path / "r.html").read_text(), pd.read_csv(tmp_path / "review_key.csv").set_index("review_id")


def test_the_sheet_asks_for_every_caption_once_and_the_key_knows_whose_it_is(sheet):
    page, key = sheet
    shown = re.findall(r'data-id="(\w+)".*?<p><b>[A-C]</b>No. (\d) &lt;b&gt;(\w)', page, re.S)
    assert len(shown) == len(key) == 29 and set(key.index) == {id for id, _, _ in shown}
    assert all(key.loc[id, "image_id"] == f"d/{image}" for id, image, _ in shown)
    assert all(key.loc[id, "captioner"][0] == letter for id, _, letter in shown)
    assert "d/0" not in set(key.loc[key["captioner"] == "gemini", "image_id"])


def test_the_sheet_names_no_captioner_and_no_image_and_changes_their_order(sheet):
    page = re.sub(r"base64,[^\"]*", "", sheet[0])
    assert not any(name in page for name in (*NAMES, "d/1"))
    orders = {tuple(re.findall(r"&lt;b&gt;(\w)", part)) for part in page.split("<section>")[2:]}
    assert len(orders) > 2


def test_the_sheet_escapes_captions_and_needs_nothing_from_elsewhere(sheet):
    page, _ = sheet
    assert "<b>l</b>" not in page and "http://" not in page and "https://" not in page
    assert "default-src 'none'" in page and page.count("data:image/jpeg;base64,") == 10


KEY = pd.DataFrame(
    [(f"id{i}", f"d/{i // 2}", "benign", ("llama", "measured")[i % 2]) for i in range(20)],
    columns=["review_id", "image_id", "label", "captioner"],
)


def review(reviewer, rejected=()):
    verdicts = ["reject" if i in rejected else "accept" for i in range(20)]
    return pd.DataFrame({"review_id": KEY["review_id"], "reviewer": reviewer, "verdict": verdicts, "comment": ""})


def score(folder, *reviews):
    KEY.to_csv(folder / "review_key.csv", index=False)
    paths = []
    for i, frame in enumerate(reviews):
        paths.append(folder / f"review_{i}.csv")
        frame.to_csv(paths[-1], index=False)
    score_reviews(folder / "review_key.csv", paths, "reviews", folder / "reviews.csv")
    return pd.read_csv(folder / "reviews.csv").set_index(["captioner", "reviewer"])


def test_acceptance_and_kappa_are_of_each_captioner_and_of_all(tmp_path):
    table = score(tmp_path, review("Ada", {0, 2, 4, 1}), review("Bo", {0, 2, 6}))
    assert table.loc[("llama", "Ada"), "acceptance"] == 0.7 and table.loc[("measured", "Ada"), "acceptance"] == 0.9
    assert table.loc[("llama", "both"), "accepted"] == 6
    assert table.loc[("all captioners", "both"), ["captions", "accepted"]].tolist() == [20, 15]
    first, second = [i in {0, 2, 4, 1} for i in range(20)], [i in {0, 2, 6} for i in range(20)]
    assert table.loc[("all captioners", "both"), "kappa"] == pytest.approx(cohen_kappa_score(first, second), abs=1e-5)
    assert table["kappa"].notna().sum() == 3


def test_the_interval_is_wilsons(tmp_path):
    row = score(tmp_path, review("Ada", {0, 2, 4})).loc[("llama", "Ada")]
    # 7 of 10, as statsmodels' proportion_confint(7, 10, method="wilson") gives it
    assert row[["acceptance_low", "acceptance_high"]].tolist() == pytest.approx([0.396773, 0.892209], abs=1e-5)


def test_one_reviewer_has_no_kappa_and_two_who_accept_everything_have_none_either(tmp_path):
    assert score(tmp_path, review("Ada", {0}))["kappa"].isna().all()
    assert score(tmp_path, review("Ada"), review("Bo"))["kappa"].isna().all()


def test_a_sheet_that_a_spreadsheet_saved_is_read(tmp_path):
    frame = review("Ada", {0}).assign(verdict=lambda f: " " + f["verdict"].str.title())
    KEY.to_csv(tmp_path / "key.csv", index=False)
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-8-sig")
    score_reviews(tmp_path / "key.csv", [tmp_path / "a.csv"], "reviews", tmp_path / "reviews.csv")
    assert pd.read_csv(tmp_path / "reviews.csv")["accepted"].tolist() == [9, 10, 19]


def without_verdict(frame):
    frame.loc[[3, 7], "verdict"] = ""
    return frame


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.replace("id3", "id99"), "1 review ids are not in review_key.csv, the first is 'id99': .*changed"),
        (lambda f: pd.concat([f, f[5:6]]), "id5 stands in more than one row"),
        (without_verdict, "2 of 20 captions have no verdict, the first is id3. Ask Ada to finish"),
        (lambda f: f[:-1], "1 of 20 captions have no verdict, the first is id19"),
        (lambda f: f.replace("accept", "yes"), "a verdict is accept or reject, not 'yes'"),
        (lambda f: f.drop(columns="verdict"), r"lacks the columns \['verdict'\]; it has .*with commas"),
        (lambda f: f.assign(reviewer=[""] * 20), r"holds one reviewer's verdicts, named in each row; found the names \[''\]"),
    ],
)  # fmt: skip
def test_a_review_that_cannot_be_counted_says_why(tmp_path, spoil, message):
    with pytest.raises(UserError, match=rf"review_0.csv: .*{message}"):
        score(tmp_path, spoil(review("Ada", {0})))
    assert not (tmp_path / "reviews.csv").exists()


def test_the_same_reviewer_in_two_files_is_refused(tmp_path):
    with pytest.raises(UserError, match="review_1.csv: 'Ada' has already reviewed"):
        score(tmp_path, review("Ada"), review("Ada", {1}))


def test_no_sheets_and_three_sheets_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"reviews \(`caption_comparison.reviews`\) holds 0 review sheets"):
        score(tmp_path)
    with pytest.raises(UserError, match="holds 3 review sheets"):
        score(tmp_path, review("Ada"), review("Bo"), review("Cy"))
