import json
import math
import re
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle

from nnpipe import ground_truth, report
from nnpipe.classifier import Classifier, champion
from nnpipe.datasets import Digits
from nnpipe.errors import OutputError
from nnpipe.ground_truth import Labelled, Unread
from nnpipe.report import measure, page, write

FILES = [
    "confusion.csv",
    "metrics.json",
    "per_class.csv",
    "predictions.parquet",
    "report.html",
    "report.md",
]
PLOTS = [
    "classes.png",
    "confusion.png",
    "coverage.png",
    "reliability-per-class.png",
    "reliability.png",
    "robustness.png",
]


def report_on(pictures, path=None, *, name="few"):
    """Measure weights, by default the champion's, beside the champion."""
    champion_path = champion()
    return measure(
        path or champion_path,
        pictures,
        champion=champion_path,
        name=name,
        command="nnpipe evaluate",
    )


def of(images, labels, **more):
    """Labelled pictures, as a folder's are."""
    n = len(labels)
    names = [f"{label}/{i}.png" for i, label in enumerate(labels)]
    return Labelled("a folder", Digits(images, labels), names, [""] * n, **more)


@pytest.fixture(scope="module")
def written(small_dataset, tmp_path_factory):
    """The champion's report on drawn digits, and the same of weights that know nothing."""
    from nnpipe import weights
    from nnpipe.datasets import drawn
    from nnpipe.network import Network

    folder = tmp_path_factory.mktemp("reports")
    other = folder / "other.npz"
    model = Classifier.load().weights
    rng = np.random.default_rng(0)
    network = Network(
        tuple(
            layer._replace(W=layer.W + rng.normal(0, 0.08, layer.W.shape).astype("f4"))
            for layer in model.network.layers
        )
    )
    golden = drawn.draw(np.arange(10), rng).reshape(10, -1)
    weights.save(other, network, metadata=model.metadata, golden=golden)
    pictures = ground_truth.from_dataset(small_dataset)
    reports = {}
    for name, path in (("champion", champion()), ("other", other)):
        measured = report_on(pictures, path, name=name)
        reports[name] = (measured, write(folder / name, measured), folder / name)
    return reports


@pytest.fixture(params=["champion", "other"])
def one(request, written):
    return written[request.param]


def test_a_report_has_all_its_files(one):
    _, _, folder = one
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == FILES
    assert sorted(path.name for path in (folder / "plots").iterdir()) == PLOTS


def test_the_page_needs_nothing_but_itself(one):
    text = (one[2] / "report.html").read_text()
    assert "<link" not in text
    assert not re.search(r"<script[^>]+src", text)
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert sources
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    namespaces = ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink")
    assert set(re.findall(r"https?://[^\"' <)]+", text)) <= set(namespaces)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def flat(value):
    if isinstance(value, dict):
        return [x for item in value.values() for x in flat(item)]
    if isinstance(value, list):
        return [x for item in value for x in flat(item)]
    return [value]


NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]?\d+)?"


def test_every_number_on_the_page_is_in_the_metrics(one):
    _, metrics, folder = one
    text = (folder / "report.html").read_text()
    text = re.sub(r"<(style|script|svg|pre)\b.*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    shown = set(re.findall(NUMBER, unescape(text)))
    known = {str(digit) for digit in range(10)} | {"95", "90", "2021", "15", "28"}  # in prose
    for value in flat(metrics):
        if isinstance(value, str):
            known |= set(re.findall(NUMBER, value)) | set(re.findall(NUMBER, value[:12]))
        elif isinstance(value, bool | int):
            known |= {f"{value:,}", str(value)}
        elif value is not None:
            known |= {str(abs(value)), *(f"{value:.{digits}f}" for digits in (3, 4))}
            known |= {f"{100 * value:.{digits}f}" for digits in (1, 2)}
    lists = [*metrics["cases"].values(), metrics["data"]["duplicates"]["first"]]
    known |= {str(len(items)) for items in lists} | {str(len(items) - 12) for items in lists}
    assert len(shown) > 300
    assert shown - known == set()


def test_the_figures_follow_from_the_predictions(one):
    """All is computed anew by scikit-learn, from the file that lies beside the figures."""
    _, metrics, folder = one
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    rows = pd.read_parquet(folder / "predictions.parquet")
    p = rows[[f"p{digit}" for digit in range(10)]].to_numpy()
    assert (rows["answer"] == p.argmax(1)).all()
    y = rows["label"]
    assert metrics["n"] == len(rows) == 500
    assert metrics["accuracy"]["value"] == oracle.accuracy_score(y, rows["answer"])
    assert metrics["confusion"] == oracle.confusion_matrix(y, rows["answer"]).tolist()
    shares = oracle.confusion_matrix(y, rows["answer"], normalize="true")
    assert np.allclose(metrics["confusion_shares"], shares)
    per_class = oracle.classification_report(y, rows["answer"], output_dict=True)
    for figures in metrics["classes"]:
        expected = per_class[str(figures["label"])]
        assert figures["precision"]["value"] == pytest.approx(expected["precision"])
        assert figures["recall"]["value"] == pytest.approx(expected["recall"])
        assert figures["f1"]["value"] == pytest.approx(expected["f1-score"])
    after = metrics["calibration"]["after"]
    shares = np.maximum(p, 1e-12) / np.maximum(p, 1e-12).sum(1, keepdims=True)
    # Rounded to six digits, a tiny probability of the true label is 0.
    certain = p[np.arange(len(y)), y] > 0
    if certain.all():
        assert after["nll"] == pytest.approx(oracle.log_loss(y, shares), abs=1e-4)
    brier = ((p - np.eye(10)[y]) ** 2).sum(1).mean()
    assert after["brier"] == pytest.approx(brier, abs=1e-5)
    assert metrics["rejection"]["rejected"] == (rows["status"] == "rejected").sum()


def test_the_tables_hold_the_figures(one):
    _, metrics, folder = one
    per_class = pd.read_csv(folder / "per_class.csv")
    assert per_class["recall_low"].tolist() == [c["recall"]["low"] for c in metrics["classes"]]
    assert per_class["support"].tolist() == [c["support"] for c in metrics["classes"]]
    confusion = pd.read_csv(folder / "confusion.csv", index_col="label")
    assert confusion.to_numpy().tolist() == metrics["confusion"]
    text = (folder / "report.md").read_text()
    assert text.startswith(f"# {metrics['accuracy']['value']:.2%} of 500 digits read right")
    assert text.count("\n| ") == 8 + 12


def test_the_champion_is_compared_with_on_the_same_digits(written, small_dataset):
    measured, metrics, folder = written["other"]
    labels = small_dataset.test.labels
    theirs = Classifier.load().logits(small_dataset.test.images).argmax(1) == labels
    ours = measured.probabilities.argmax(1) == labels
    comparison = metrics["comparison"]
    assert comparison["gained"] == (ours & ~theirs).sum()
    assert comparison["lost"] == (theirs & ~ours).sum() > 0
    assert comparison["both_right"] + comparison["both_wrong"] == (ours == theirs).sum()
    for i in metrics["cases"]["lost"]:
        shown = metrics["pictures"][str(i)]
        assert shown["champion_answer"] == shown["label"] != shown["answer"]
    rows = pd.read_parquet(folder / "predictions.parquet")
    assert ((rows["champion_answer"] == rows["label"]) == theirs).all()
    sentence = metrics["summary"]["against_champion"]
    assert f"{comparison['gained']} of its errors are read right here" in sentence
    assert f"and {comparison['lost']} of its hits are misread: worse" in sentence


def test_without_a_champion_there_is_no_comparison(tmp_path, small_dataset):
    pictures = of(*(part[:10] for part in small_dataset.test))
    measured = measure(champion(), pictures, champion=tmp_path / "none.npz", name="few", command="")
    metrics = write(tmp_path, measured, plots=False)
    assert metrics["comparison"] is None
    assert metrics["summary"]["against_champion"] == "There is no champion to compare with."


def test_the_champion_itself_is_compared_with_nobody(written):
    _, metrics, _ = written["champion"]
    assert metrics["comparison"] is None
    assert metrics["summary"]["against_champion"] == "These are the champion's own weights."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "labels"),
    [
        pytest.param([7], [7], id="one picture, right"),
        pytest.param([7], [3], id="one picture, wrong"),
        pytest.param([7, 7, 7, 1], [7, 7, 7, 1], id="two classes, all right"),
        pytest.param([1, 2, 3, 4], [5, 6, 7, 8], id="all wrong"),
    ],
)
def test_whatever_there_is_gives_a_report(tmp_path, small_dataset, images, labels):
    test = small_dataset.test
    right = Classifier.load().logits(test.images).argmax(1) == test.labels
    # Digits that are read right, so that the labels alone say what is wrong.
    chosen = [np.flatnonzero(right & (test.labels == digit))[0] for digit in images]
    pictures = of(test.images[chosen], np.array(labels, np.uint8))
    metrics = write(tmp_path, report_on(pictures))
    text = (tmp_path / "report.html").read_text() + (tmp_path / "report.md").read_text()
    assert not re.search(r"\b(nan|inf|None|undefined)\b", re.sub(r"<style.*?</style>", "", text))
    assert metrics["errors"] == sum(a != b for a, b in zip(images, labels, strict=True))
    assert math.isfinite(metrics["macro_f1"]["value"])
    assert [c["recall"] is None for c in metrics["classes"]] == [
        digit not in labels for digit in range(10)
    ]


def test_without_plots_there_are_tables(tmp_path, small_dataset, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    pictures = of(*(part[:50] for part in small_dataset.test))
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "confusion.png").touch()  # of an earlier report
    (tmp_path / "plots" / "mine.txt").touch()
    write(tmp_path, report_on(pictures), plots=False)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == FILES
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["mine.txt"]
    assert "read 9" in (tmp_path / "report.html").read_text()


def test_names_of_files_are_text_and_nothing_else(tmp_path, small_dataset):
    images, labels = (part[:3] for part in small_dataset.test)
    pictures = Labelled(
        "<b>folder</b>",
        Digits(images, labels),
        ["3/<script>alert(1)</script>.png", "1/ä & ö.png", "2/\\xff.png"],
        ["", "", "more than one digit"],
        files=[tmp_path / "gone"] * 3,
        unreadable=(Unread("0/<i>.png", "the picture is damaged: <br>"),),
        unlabelled=("Thumbs.db",),
    )
    metrics = write(tmp_path, report_on(pictures), plots=False)
    text = (tmp_path / "report.html").read_text()
    for tag in ("<b>folder", "<script>alert", "<i>.png", "damaged: <br>"):
        assert tag not in text
    assert "0/&lt;i&gt;.png" in text
    files = metrics["files"]
    assert files["unreadable"]["first"][0]["reason"] == "the picture is damaged: <br>"
    assert files["refused"] == {
        "n": 1,
        "first": [{"name": "2/\\xff.png", "reason": "more than one digit"}],
    }
    assert files["unlabelled"] == {"n": 1, "first": ["Thumbs.db"]}
    rows = pd.read_parquet(tmp_path / "predictions.parquet")
    assert rows["status"].tolist()[2:] == ["rejected", "error"]
    assert rows["label"].isna().tolist() == [False, False, False, True]


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path, small_dataset, monkeypatch):
    few, fewer = (of(*(part[:n] for part in small_dataset.test)) for n in (20, 10))
    write(tmp_path, report_on(few), plots=False)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OutputError, match=r"could not be written \(No space left on device\)"):
        write(tmp_path, report_on(fewer), plots=False)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_documented_keys_are_those_there_are(one):
    documented = (Path(report.__file__).parents[2] / "docs" / "report.md").read_text()
    table = documented.split("## metrics.json")[1].split("Intervals of shares")[0]
    keys = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(keys))) == set(one[1])


def test_filters_write_figures_as_people_do():
    assert page.percent(0.98765) == "98.77\u202f%"
    assert page.number(1234567) == "1,234,567"
    assert page.share(None) == "–"
    assert "98.00\u202f%" in page.estimate({"value": 0.98, "low": 0.97, "high": 0.99})


CHROMIUM = next(
    (
        path
        for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser"))
        if path.exists()
    ),
    None,
)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_screen_and_says_nothing_on_the_console(one, browser, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    tab = context.new_page()
    said = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto((one[2] / "report.html").as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = tab.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    light, dark = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink))
    assert (light > dark) == (scheme == "light")
    # What the plots say is in the colour of the text.
    fill = tab.evaluate("getComputedStyle(document.querySelector('.plot svg text')).fill")
    assert fill == ink
    assert said == []
    context.close()


@pytest.mark.slow
def test_the_table_is_sorted_by_a_click_and_by_the_keyboard(written, browser):
    _, metrics, folder = written["other"]
    tab = browser.new_page()
    tab.goto((folder / "report.html").as_uri())
    head = tab.get_by_role("button", name="recall")
    digits = "[...document.querySelectorAll('.sortable tbody tr')].map(r => +r.cells[0].innerText)"
    recall = [c["recall"]["value"] for c in metrics["classes"]]
    head.click()
    assert [recall[digit] for digit in tab.evaluate(digits)] == sorted(recall)
    head.press("Enter")
    assert [recall[digit] for digit in tab.evaluate(digits)] == sorted(recall, reverse=True)
    tab.close()
