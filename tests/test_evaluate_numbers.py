"""Numbers that are listed in a CSV file: read with their labels, measured, and shown."""

import json
import re
from difflib import SequenceMatcher
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics as oracle

from nnpipe import ground_truth, stages
from nnpipe.classifier import Classifier
from nnpipe.datasets import Digits, composed, drawn
from nnpipe.errors import EvaluationError, SettingError
from nnpipe.evaluation.numbers import BUDGETS, align, evaluate_numbers
from nnpipe.evaluation.statistics import wilson
from nnpipe.numbers.reading import Digit, Number
from nnpipe.settings import EvaluateRequest

ALPHABET = list("0123456789")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve composed numbers as pictures, some of them deeper, and the list of their labels."""
    root = tmp_path_factory.mktemp("forms") / "my numbers"
    (root / "deeper").mkdir(parents=True)
    rng = np.random.default_rng(7)
    labels = np.arange(10).repeat(20)
    digits = Digits(drawn.draw(labels, rng), labels)
    numbers = composed.compose(digits, rng, count=12, length=(1, 6), kind="apart")
    lines = ["file,label"]
    for i, number in enumerate(numbers):
        name = f"deeper/{i}.png" if i % 2 else f"{i}.png"
        Image.fromarray(number.picture).save(root / name)
        lines.append(f"{name},{number.label}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def listed(tmp_path):
    """A function that writes a CSV file beside two pictures and reads it, with known answers."""
    for name in ("a.png", "b.png"):
        Image.new("L", (60, 30), 255).save(tmp_path / name)

    def read(text, *answers, **options):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "labels.csv").write_bytes(content)
        return ground_truth.from_csv(tmp_path / "labels.csv", Answers(*answers), **options)

    return read


class Answers:
    """A classifier that gives known answers."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def read_numbers(self, prepared, wanted):
        return [
            Number("error", reason=str(p))
            if isinstance(p, Exception)
            else next(self.answers, Number("rejected", confidence=0.0))
            for p in prepared
        ]


def test_a_csv_file_is_read_with_its_labels_in_its_order(folder):
    classifier = Classifier.load()
    found = ground_truth.from_csv(folder / "labels.csv", classifier)
    assert found.files == [folder / name for name in found.names]
    for file, number in zip(found.files, found.readings, strict=True):
        assert number == classifier.read(file, digits="any")


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,007\nb.png,42\n",
        "file,number,by\r\na.png,007,me\r\nb.png,42,me\r\n",
        '\ufefflabel;file\n"0,07";a.png\n4-2;b.png\n',
        "\n File \tLabel\na.png\t 00:7 \n\nb.png\t4/2",
    ],
)
def test_columns_separators_and_delimiters_may_differ(listed, text):
    found = listed(text)
    assert list(found.names) == ["a.png", "b.png"]
    assert list(found.labels) == ["007", "42"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks a column; expected the columns file and label"),
        ("file,text\na.png,1\n", "lacks a column; expected the columns file and label"),
        ("a.png,1\n", "lacks a column; expected the columns file and label"),
        ("file,label\n\n", "lists no picture"),
        ("file,label\na.png,1O2\n", "line 2: the label '1O2' is not a number of 1 to 32 digits"),
        ("file,label\na.png,\n", "line 2: the label '' is not a number of 1 to 32 digits"),
        (f"file,label\na.png,{'1' * 33}\n", "is not a number of 1 to 32 digits"),
        ("file,label\na.png,٣\n", "is not a number of 1 to 32 digits"),
        ("file,label\na.png,12,50\n", "line 2 has 3 cells, and the first line 2"),
        ("file,label\na.png\n", "line 2 has 1 cells, and the first line 2"),
        ("file,label\na.png,1\n./a.png,1\n", "line 3 has the picture of line 2 again"),
        ('file,label\na.png,"1\n', "line 2: unexpected end of data"),
        (b"file,label\na.png,\xff\n", "is no CSV file in UTF-8"),
        ("file,label\nc.png,1\n", "none of its pictures can be read (c.png: there is no such file"),
    ],
)
def test_a_bad_csv_file_is_one_sentence(listed, tmp_path, text, message):
    with pytest.raises(EvaluationError) as error:
        listed(text)
    assert str(error.value).startswith(f"{tmp_path / 'labels.csv'}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_csv_file_that_is_not_there_is_one_sentence(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(EvaluationError, match="cannot be read"):
            ground_truth.from_csv(path, Answers())


def test_what_cannot_be_read_is_listed_and_in_no_figure(listed, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    found = listed("file,label\nnotes.txt,1\na.png,2\ngone.png,3\n", Number("ok", "2", 0.9))
    assert [file.name for file in found.unreadable] == ["notes.txt", "gone.png"]
    assert (list(found.names), list(found.labels)) == (["a.png"], ["2"])
    assert found.readings[0].label == "2"


def test_the_number_of_digits_is_checked_before_anything_is_read(listed):
    with pytest.raises(SettingError, match="digits is '4-'"):
        listed("no CSV", digits="4-")


def edits(label, answer):
    """The Levenshtein distance, by its definition."""
    if not label or not answer:
        return len(label) + len(answer)
    return min(
        edits(label[1:], answer) + 1,
        edits(label, answer[1:]) + 1,
        edits(label[1:], answer[1:]) + (label[0] != answer[0]),
    )


def test_an_alignment_has_the_fewest_edits():
    rng = np.random.default_rng(0)
    for _ in range(150):
        label, answer = ("".join(rng.choice(list("012"), rng.integers(0, 6))) for _ in range(2))
        pairs = align(label, answer)
        assert "".join(true for true, _ in pairs) == label
        assert "".join(read for _, read in pairs) == answer
        assert sum(true != read for true, read in pairs) == edits(label, answer)


def test_digits_that_are_cut_apart_or_lost_leave_the_others_right():
    """Difflib finds the same equal digits where one digit is lost, added or changed."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        label = "".join(rng.permutation(ALPHABET))  # without repetition, so there is one way
        at = int(rng.integers(len(label)))
        for part in ("", "x", f"x{label[at]}"):
            answer = label[:at] + part + label[at + 1 :]
            blocks = SequenceMatcher(None, label, answer, autojunk=False).get_matching_blocks()
            equal = sum(true == read for true, read in align(label, answer))
            assert equal == sum(block.size for block in blocks)
    assert align("10", "01") in [
        (("1", ""), ("0", "0"), ("", "1")),
        (("", "0"), ("1", "1"), ("0", "")),
    ]


@pytest.fixture(scope="module")
def many():
    """300 labels; two thirds are read right, and the more confident, the more of them."""
    rng = np.random.default_rng(2)
    labels, answers, confidences = [], [], []
    for _ in range(300):
        label = "".join(rng.choice(ALPHABET, rng.integers(1, 8)))
        confidence = float(rng.random().__round__(2))
        answer = label
        if rng.random() > confidence**0.5:
            wrong = [None, label + "1", str(int(label[0]) ^ 1) + label[1:]]
            answer = wrong[rng.integers(3)]
        labels.append(label)
        answers.append(answer)
        confidences.append(confidence)
    return labels, answers, np.array(confidences)


def test_the_figures_are_those_of_a_count(many):
    labels, answers, confidences = many
    found = evaluate_numbers(labels, answers, confidences=confidences)
    table = pd.DataFrame({"label": labels, "answer": answers, "confidence": confidences})
    right = table.label == table.answer
    assert (found.n, found.errors) == (300, int((~right).sum()))
    assert found.accuracy == wilson(int(right.sum()), 300)
    refused = table.answer.isna()
    other_length = ~refused & (table.answer.str.len() != table.label.str.len())
    kinds = {kind.name: kind.n for kind in found.kinds}
    rest = int((~right & ~refused & ~other_length).sum())
    assert kinds == {"refused": refused.sum(), "length": other_length.sum(), "digit": rest}
    assert {x.digits: (x.n, x.errors) for x in found.lengths} == {
        length: (len(group), int((~group).sum()))
        for length, group in right.groupby(table.label.str.len())
    }
    by_confidence = table.confidence.where(~refused, -1)
    half = by_confidence.sort_values(ascending=False, kind="stable").index[:150]
    assert found.surest_half == wilson(int(right[half].sum()), 150)
    assert (
        found.digits.n == table.label.str.len().sum() == found.confusion.sum() + found.digits.missed
    )
    assert (
        found.digits.right
        == sum(
            len(label) - edits(label, answer)
            for label, answer in zip(labels, answers, strict=True)
            if answer and len(label) == len(answer)
        )
        + table.label[other_length].str.len().sum()
    )


def test_the_confidence_is_measured_as_scikit_learn_does(many):
    labels, answers, confidences = many
    found = evaluate_numbers(labels, answers, confidences=confidences).reliability
    kept = np.array([answer is not None for answer in answers])
    right = np.array([a == b for a, b in zip(labels, answers, strict=True)])[kept]
    c = confidences[kept]
    assert found.brier == pytest.approx(oracle.brier_score_loss(right, c))
    assert sum(b.n for b in found.bins) == kept.sum()
    bands = pd.cut(c, np.linspace(0, 1, 16), include_lowest=True)
    means = pd.DataFrame({"c": c, "right": right}).groupby(bands, observed=True)
    distances = means.size() * (means.c.mean() - means.right.mean()).abs()
    assert found.ece == pytest.approx(distances.sum() / kept.sum())


def test_an_error_budget_is_kept_by_as_many_numbers_as_possible(many):
    labels, answers, confidences = many
    found = evaluate_numbers(labels, answers, confidences=confidences)
    kept = np.array([answer is not None for answer in answers])
    wrong = np.array([a != b for a, b in zip(labels, answers, strict=True)])
    assert [b.budget for b in found.coverage.budgets] == list(BUDGETS) == [0.05, 0.01, 0.005]
    for budget in found.coverage.budgets:
        best = 0
        for threshold in np.unique(confidences):
            taken = kept & (confidences >= threshold)
            if taken.any() and wrong[taken].mean() <= budget.budget:
                best = max(best, int(taken.sum()))
        assert budget.read == best
        assert budget.coverage == best / 300


def test_the_worst_cases_are_the_most_confident_errors():
    found = evaluate_numbers(
        ["1", "2", "3", "4", "5"],
        ["7", "2", None, "44", "5"],
        confidences=[0.6, 0.3, 0.9, 0.8, 0.2],
    )
    assert found.cases.errors == (3, 0)
    assert found.cases.refused == (2,)
    assert found.cases.hits == (4, 1)


def test_nothing_or_refused_numbers_alone_can_be_measured():
    with pytest.raises(EvaluationError, match="no numbers"):
        evaluate_numbers([], [], confidences=[])
    found = evaluate_numbers(["12", "3"], [None, None], confidences=[0.1, 0.0])
    assert (found.errors, found.digits.missed, found.reliability) == (2, 3, None)
    assert found.coverage.budgets == ()


@pytest.fixture(scope="module")
def written(folder, tmp_path_factory):
    """The champion's report on the composed numbers."""
    out = tmp_path_factory.mktemp("report") / "numbers"
    done = stages.evaluate(EvaluateRequest(labels=folder / "labels.csv", out=out))
    return done, json.loads((out / "metrics.json").read_text()), out


def test_a_report_on_numbers_has_its_files(written):
    _, _, out = written
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    plots = [f"plots/{name}.png" for name in ("confusion", "coverage", "reliability")]
    assert files == [
        "confusion.csv",
        "metrics.json",
        *plots,
        "predictions.parquet",
        "report.html",
        "report.md",
    ]


def test_the_figures_follow_from_the_rows(written):
    done, metrics, out = written
    rows = pd.read_parquet(out / "predictions.parquet")
    assert (done.what, done.n, done.errors) == ("numbers", len(rows), metrics["errors"])
    right = (rows.label == rows.answer).fillna(False)
    assert metrics["accuracy"]["value"] == done.accuracy == right.mean() >= 0.5
    assert rows.label.str.fullmatch(r"\d{1,6}").all()
    assert ((rows.status == "ok") == rows.answer.notna()).all()
    confusion = pd.read_csv(out / "confusion.csv", index_col="label")
    assert confusion.to_numpy().tolist() == metrics["confusion"]
    assert np.trace(confusion) == metrics["digits"]["right"]


def test_each_picture_has_the_boxes_of_its_digits(written):
    _, metrics, out = written
    text = (out / "report.html").read_text()
    shown = [p for p in metrics["pictures"].values() if p["answer"]]
    assert shown
    for picture in shown:
        assert "".join(str(d["digit"]) for d in picture["digits"]) == picture["answer"]
        for d in picture["digits"]:
            assert 0 <= (d["left"] + d["right"]) / 2 <= picture["width"]
            assert 0 <= (d["top"] + d["bottom"]) / 2 <= picture["height"]
            assert f"left:{round(100 * d['left'] / picture['width'], 2)}%" in text
        if picture["answer"] == picture["label"]:
            assert all(d["matches"] for d in picture["digits"])


NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?"


def flat(value):
    if isinstance(value, dict | list):
        return [
            x for item in (value.values() if isinstance(value, dict) else value) for x in flat(item)
        ]
    return [value]


def test_every_number_on_the_page_is_in_the_metrics(written):
    _, metrics, out = written
    text = (out / "report.html").read_text()
    text = re.sub(r"<(style|script|svg|pre)\b.*?</\1>|<[^>]+>", " ", text, flags=re.DOTALL)
    known = {*ALPHABET, "95", "90"}  # in prose
    for value in flat(metrics):
        if isinstance(value, str):
            known |= {*re.findall(NUMBER, value), *re.findall(NUMBER, value[:12])}
        elif value is not None:
            known |= {f"{value:,}", f"{value:.4f}", *(f"{100 * value:.{n}f}" for n in (1, 2))}
    shown = set(re.findall(NUMBER, unescape(text)))
    assert len(shown) > 50
    assert shown - known == set()


def test_the_page_needs_nothing_but_itself(written):
    text = (written[2] / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert all(source.startswith(("data:image/png;base64,", "#")) for source in sources)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    anchors = {source[1:] for source in sources if source.startswith("#")}
    assert {anchor for anchor in anchors if not re.match(r"p\d+-", anchor)} <= set(ids)


def test_a_page_escapes_names_and_colours_the_digits_that_differ(tmp_path, monkeypatch):
    name = "<b>1&.png"
    Image.new("L", (100, 50), 255).save(tmp_path / name)
    (tmp_path / "labels.csv").write_text(f"file,label\n{name},12\n")
    digits = (Digit(1, 0.9, 10, 5, 30, 45), Digit(7, 0.8, 50, 5, 70, 45))
    number = Number("ok", "17", 0.7, "12", 0.2, width=100, height=50, digits=digits)
    monkeypatch.setattr(Classifier, "read_numbers", lambda self, prepared, wanted: [number])
    out = tmp_path / "report"
    request = EvaluateRequest(labels=tmp_path / "labels.csv", out=out, plots=False)
    assert stages.evaluate(request).errors == 1
    text = (out / "report.html").read_text()
    assert name not in text
    assert name in unescape(text)
    assert 'class="same" style="left:10.0%;top:10.0%;width:20.0%;height:80.0%"' in text
    assert 'class="other" style="left:50.0%;top:10.0%;width:20.0%;height:80.0%"' in text
    assert "0 are refused, 0 are read with too many or too few digits, and 1 with a wrong" in text
    assert not (out / "plots").exists()


def test_a_report_on_numbers_replaces_one_on_digits_whole(folder, tmp_path):
    for digit in "37":
        (tmp_path / "digits" / digit).mkdir(parents=True)
        image = drawn.draw(np.array([int(digit)]), np.random.default_rng(0))[0]
        Image.fromarray(255 - image).save(tmp_path / "digits" / digit / "1.png")
    out = tmp_path / "out"
    stages.evaluate(EvaluateRequest(folder=tmp_path / "digits", out=out, plots=False))
    assert (out / "per_class.csv").exists()
    stages.evaluate(EvaluateRequest(labels=folder / "labels.csv", out=out, plots=False))
    assert not (out / "per_class.csv").exists()
    assert json.loads((out / "metrics.json").read_text())["about"]["digits"] == "any"


def test_what_contradicts_itself_is_refused(folder):
    labels = folder / "labels.csv"
    for more in ({"folder": folder}, {"dataset": "mnist"}):
        with pytest.raises(EvaluationError, match="expected one of them"):
            stages.evaluate(EvaluateRequest(labels=labels, **more))
    with pytest.raises(EvaluationError, match="digits is set without labels"):
        stages.evaluate(EvaluateRequest(folder=folder, digits="4"))


def test_the_command_is_that_of_the_report(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = folder / "labels.csv"
    done = stages.evaluate(EvaluateRequest(labels=labels, digits="1-6", plots=False))
    assert done.report == Path("reports/champion-on-my numbers")
    metrics = json.loads((done.report / "metrics.json").read_text())
    assert metrics["reproduce"][1] == f"nnpipe evaluate --labels '{labels}' --digits 1-6"


@pytest.mark.slow
def test_prefect_shows_the_table_of_lengths(written, monkeypatch):
    import flows.evaluate

    shown = []
    for kind in ("markdown", "table", "image"):
        name = f"create_{kind}_artifact"
        monkeypatch.setattr(flows.evaluate.artifacts, name, lambda value, **_: shown.append(value))
    _, metrics, out = written
    flows.evaluate._show(out, plots=True)
    summary, table, picture = shown
    assert metrics["summary"]["headline"] in summary
    assert [row["digits"] for row in table] == [x["digits"] for x in metrics["lengths"]]
    assert all(re.fullmatch(r"[\d.]+ % \(.*\)", row["accuracy"]) for row in table)
    assert picture.startswith("data:image/png;base64,")
